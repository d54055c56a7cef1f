"""Nodes of the references: what generated images are compared with."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

from lct_pipeline.datasets.files import content_digest
from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.datasets.tensor_file import TensorFile
from lct_pipeline.lazy import pd
from lct_pipeline.parameters import Features, Runtime
from lct_pipeline.pipelines.references.classifiers import (
    fitted_classifier,
    training_labels,
)
from lct_pipeline.pipelines.splits import indices_of
from lct_pipeline.reporting.progress import track

if TYPE_CHECKING:
    from torch import Tensor

    from lct_pipeline.core.frechet import FeatureStatistics
    from lct_pipeline.models.features import FeatureExtractor

logger = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")
CHECK = "check."  # begins the names of what is measured by the check extractor


def prepare_extractor(
    images: ShardStore,
    image_manifest: pd.DataFrame,
    previous_extractor: TensorFile | None,
    parameters: Features,
    runtime: Runtime,
) -> TensorFile:
    """Return the extractor of all distances: Inception by name, or a classifier fitted here."""
    if parameters.extractor.kind == "inception":
        from lct_pipeline.models.features import inception_folder

        return TensorFile(
            {}, {"folder": str(inception_folder(parameters.extractor.path))}
        )
    labels = training_labels(image_manifest)
    return fitted_classifier(
        previous_extractor,
        images,
        image_manifest,
        labels,
        parameters,
        runtime,
        name="rotation_classifier" if labels is None else "classifier",
        seed=parameters.seed,
    )


def prepare_check_extractor(
    images: ShardStore,
    image_manifest: pd.DataFrame,
    previous_check_extractor: TensorFile | None,
    parameters: Features,
    runtime: Runtime,
) -> TensorFile:
    """Return an extractor by which nothing is searched or chosen: a classifier of rotations.

    What fits the first extractor alone shows in its distances. It has another seed, so it is
    another one even where the first is a classifier of rotations too.
    """
    return fitted_classifier(
        previous_check_extractor,
        images,
        image_manifest,
        None,
        parameters,
        runtime,
        name="check_rotation_classifier",
        seed=parameters.seed + 1,
    )


def extractor_of(stored: TensorFile, runtime: Runtime) -> FeatureExtractor:
    """Return the extractor of a ``feature_extractor`` or ``check_extractor`` file."""
    from pathlib import Path

    from lct_pipeline.models.device import choose_device
    from lct_pipeline.models.features import classifier_extractor, inception_extractor

    device = choose_device(runtime.device)
    if "folder" in stored.metadata:
        return inception_extractor(Path(stored.metadata["folder"]), device)
    return classifier_extractor(stored.tensors, stored.metadata, device)


def measure_references(
    images: ShardStore,
    image_manifest: pd.DataFrame,
    feature_extractor: TensorFile,
    check_extractor: TensorFile,
    previous_reference_statistics: TensorFile | None,
    parameters: Features,
    runtime: Runtime,
) -> TensorFile:
    """Return what both extractors find in the real images of each split.

    ``<split>.mu`` and ``<split>.cov`` are those of all its images, ``<split>.features`` of a
    random ``num_kept`` at most; ``check.<split>.mu`` and so on are the check extractor's. The
    metadata has the number of images by split.
    """
    stored = {"": feature_extractor, CHECK: check_extractor}
    digests = [content_digest(file.tensors, file.metadata) for file in stored.values()]
    origin = {"images": images.fingerprint, "extractors": digests}
    previous = previous_reference_statistics
    if previous is not None and origin.items() <= previous.metadata.items():
        logger.info("The references are already measured.")
        return previous
    places = {split: indices_of(image_manifest, split) for split in SPLITS}
    tensors: dict[str, Tensor] = {}
    for prefix, file in stored.items():
        extractor = extractor_of(file, runtime)
        for split, indices in places.items():
            found = _measure(images, indices, split, extractor, parameters)
            tensors |= {f"{prefix}{split}.{key}": t for key, t in found.items()}
    num_images = {split: len(indices) for split, indices in places.items()}
    return TensorFile(tensors, {**origin, "num_images": num_images})


def _measure(
    images: ShardStore,
    indices: Any,
    split: str,
    extractor: FeatureExtractor,
    parameters: Features,
) -> dict[str, Tensor]:
    """Return ``mu``, ``cov`` and ``features`` of a split, by one extractor."""
    from lct_pipeline.core.randomness import derived_generator
    from lct_pipeline.core.sample_quality import (
        feature_batches,
        random_subset,
        reduce_features,
    )

    generator = derived_generator(parameters.seed, "kept features", split)
    kept = random_subset(len(indices), parameters.num_kept, generator)
    batches = track(
        images.batches("images", parameters.batch_size, indices),
        f"{extractor.name} features of {split}".replace("_", " "),
        "batch",
        total=math.ceil(len(indices) / parameters.batch_size),
    )
    statistics, features = reduce_features(
        feature_batches(batches, extractor.extract), kept
    )
    return {"mu": statistics.mu, "cov": statistics.cov, "features": features}


def statistics_of(
    reference_statistics: TensorFile, split: str, prefix: str = ""
) -> FeatureStatistics:
    """Return the statistics of all real images of a split.

    Args:
        reference_statistics: What was measured.
        split: One of ``SPLITS``.
        prefix: Empty for the extractor of all distances, ``CHECK`` for the check extractor.
    """
    from lct_pipeline.core.frechet import FeatureStatistics

    tensors = reference_statistics.tensors
    return FeatureStatistics(
        tensors[f"{prefix}{split}.mu"],
        tensors[f"{prefix}{split}.cov"],
        reference_statistics.metadata["num_images"][split],
    )
