"""What generated images are compared with: extractors, and what they find in real images."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pandas import DataFrame
from torch import Tensor

from lct_pipeline.core.metrics.feature_sets import FeatureReducer
from lct_pipeline.core.metrics.frechet import FeatureStatistics
from lct_pipeline.core.randomness import derived_generator
from lct_pipeline.core.sample_quality import feature_batches, random_subset
from lct_pipeline.datasets.parts import Last
from lct_pipeline.datasets.reference import Parts
from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.datasets.splits import SPLITS, indices_of
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.evaluation.classifiers import fitted_classifier, training_labels
from lct_pipeline.evaluation.extractors import (
    FITTED,
    described,
    digest_of,
    extractor_of,
)
from lct_pipeline.models.features.extractors import FeatureExtractor
from lct_pipeline.parameters import Runtime
from lct_pipeline.parameters.evaluation import Features
from lct_pipeline.progress import track

logger = logging.getLogger(__name__)

CHECK = "check."  # begins the names of what is measured by the check extractor


def reference_parts(
    images: ShardStore,
    image_manifest: DataFrame,
    previous: Mapping[str, TensorFile],
    parameters: Features,
    runtime: Runtime,
) -> Iterator[Parts | Last[Parts]]:
    """Yield the extractor, the check extractor and what both find in the real images.

    ``<split>.mu`` and ``<split>.cov`` are those of all images of a split, ``<split>.features`` of a
    random ``num_retained`` at most; ``check.<split>.mu`` and so on are the check extractor's. The
    metadata has the number of images by split. What was made before in the same way is yielded as
    it is.
    """
    extractor = _extractor(
        images, image_manifest, previous.get("extractor"), parameters, runtime
    )
    yield {"extractor": extractor}
    # by which nothing is searched: what fits the first extractor alone shows in its
    # distances. It has another seed, so it is another one even where both are of rotations
    check_extractor = fitted_classifier(
        previous.get("check_extractor"),
        images,
        image_manifest,
        None,
        parameters,
        runtime,
        name="check_rotation_classifier",
        seed=parameters.seed + 1,
    )
    yield {"check_extractor": check_extractor}
    stored = {"": extractor, CHECK: check_extractor}
    statistics = measured(
        images,
        image_manifest,
        {prefix: extractor_of(file, runtime) for prefix, file in stored.items()},
        {prefix: digest_of(file) for prefix, file in stored.items()},
        previous.get("statistics"),
        parameters,
    )
    yield Last({"statistics": statistics})


def _extractor(
    images: ShardStore,
    image_manifest: DataFrame,
    previous: TensorFile | None,
    parameters: Features,
    runtime: Runtime,
) -> TensorFile:
    """Return the extractor that is searched, chosen and judged by; a classifier is fitted here."""
    if parameters.extractor.kind != FITTED:
        return described(parameters.extractor, runtime)
    labels = training_labels(image_manifest)
    return fitted_classifier(
        previous,
        images,
        image_manifest,
        labels,
        parameters,
        runtime,
        name="rotation_classifier" if labels is None else "classifier",
        seed=parameters.seed,
    )


def measured(
    images: ShardStore,
    image_manifest: DataFrame,
    extractors: Mapping[str, FeatureExtractor],
    digests: Mapping[str, str],
    previous: TensorFile | None,
    parameters: Features,
    *,
    transform: Callable[[Tensor], Tensor] | None = None,
) -> TensorFile:
    """Return the statistics of all splits by each extractor; those that are there are reused.

    Args:
        images: All real images.
        image_manifest: Which of them are in a split.
        extractors: By the prefix of the names of what they find.
        digests: Of each extractor, and of whatever else its figures depend on.
        previous: What was measured before.
        parameters: How many features are kept.
        transform: What is done to the images first, such as writing them to JPEG files.
    """
    places = {split: indices_of(image_manifest, split) for split in SPLITS}
    common = {
        "images": images.fingerprint,
        "num_images": {split: len(indices) for split, indices in places.items()},
        "kept": [parameters.num_retained, parameters.seed],
    }
    known = _still_valid(previous, common)
    if previous is not None and known == digests:
        logger.info("The references are already measured.")
        return previous
    tensors: dict[str, Tensor] = {}
    for prefix, extractor in extractors.items():
        if previous is not None and known.get(prefix) == digests[prefix]:
            tensors |= _of_prefix(previous.tensors, prefix)
            continue
        for split, indices in places.items():
            found = _measure(images, indices, split, extractor, parameters, transform)
            tensors |= {f"{prefix}{split}.{key}": t for key, t in found.items()}
    return TensorFile(tensors, {**common, "extractors": dict(digests)})


def _still_valid(
    previous: TensorFile | None, common: Mapping[str, Any]
) -> dict[str, str]:
    """Return the digests of the extractors whose figures are of the same images."""
    if previous is None or not common.items() <= previous.metadata.items():
        return {}
    return previous.metadata["extractors"]


def _of_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix and a split."""
    starts = tuple(f"{prefix}{split}." for split in SPLITS)
    return {name: t for name, t in tensors.items() if name.startswith(starts)}


def _measure(
    images: ShardStore,
    indices: Any,
    split: str,
    extractor: FeatureExtractor,
    parameters: Features,
    transform: Callable[[Tensor], Tensor] | None,
) -> dict[str, Tensor]:
    """Return ``mu``, ``cov`` and ``features`` of a split, by one extractor."""
    generator = derived_generator(parameters.seed, "kept features", split)
    kept = random_subset(len(indices), parameters.num_retained, generator)
    batches = track(
        images.batches("images", parameters.batch_size, indices),
        f"{extractor.name} features of {split}".replace("_", " "),
        "batch",
        total=math.ceil(len(indices) / parameters.batch_size),
    )
    changed = batches if transform is None else map(transform, batches)
    reducer = FeatureReducer(kept, num_blocks=1)
    for features in feature_batches(changed, extractor.extract):
        reducer.update(features)
    found = reducer.result()
    statistics = found.statistics
    return {"mu": statistics.mu, "cov": statistics.cov, "features": found.kept}


def statistics_of(
    statistics: TensorFile, split: str, prefix: str = ""
) -> FeatureStatistics:
    """Return the statistics of all real images of a split.

    Args:
        statistics: What was measured.
        split: One of ``SPLITS``.
        prefix: Empty for the extractor of all distances, ``CHECK`` for the check extractor.
    """
    tensors = statistics.tensors
    return FeatureStatistics(
        tensors[f"{prefix}{split}.mu"],
        tensors[f"{prefix}{split}.cov"],
        statistics.metadata["num_images"][split],
    )
