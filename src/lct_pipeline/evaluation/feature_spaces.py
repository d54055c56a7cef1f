"""Where images are compared: a feature extractor, with what it finds in real images."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lct_pipeline.core.metrics.feature_sets import FeatureSet
from lct_pipeline.core.metrics.frechet import (
    FeatureMoments,
    FeatureStatistics,
    FrechetReference,
    feature_statistics,
)
from lct_pipeline.core.metrics.kernel import KernelDistance, kernel_distance
from lct_pipeline.core.metrics.neighbours import (
    NEIGHBOUR_OF_DENSITY,
    ManifoldMetrics,
    manifold_metrics,
)
from lct_pipeline.core.randomness import derived_generator
from lct_pipeline.core.sample_quality import random_subset
from lct_pipeline.datasets.splits import SPLITS
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import DataError
from lct_pipeline.models.device import choose_device
from lct_pipeline.models.digests import file_digest
from lct_pipeline.models.features.base import FeatureExtractor
from lct_pipeline.models.features.classifier import classifier_extractor
from lct_pipeline.models.features.extractors import build_extractor
from lct_pipeline.parameters import Runtime, parameters_digest
from lct_pipeline.parameters.evaluation import TRAINED_HERE, Extractor, Features

logger = logging.getLogger(__name__)

# as they are called in the column `reference`
TITLES = {
    "train": "the training split",
    "validation": "the validation split",
    "test": "the test split",
    "all": "all real images",
}
FEATURES_AS_GIVEN = FeatureExtractor(
    name="", digest="", resize="none", extract=lambda features: features
)  # of a source that makes features and no images


def described(extractor: Extractor, runtime: Runtime) -> TensorFile:
    """Return the file that stands for a pretrained extractor: what it is, and its digest.

    Raises:
        DataError: Its weights are not there.
    """
    digest = build_extractor(extractor, choose_device(runtime.device)).digest
    about = {"extractor": extractor.model_dump(mode="json"), "digest": digest}
    return TensorFile({}, about)


def extractor_digest(features: Features) -> str:
    """Return a digest of all that makes an extractor what it is, wherever its files are."""
    chosen = features.extractor
    said: dict[str, Any] = {"extractor": chosen.model_dump(mode="json")}
    for name in ("kind", "path"):
        file = Path(said["extractor"][name] or "")
        if file.is_file():
            said["extractor"][name] = file_digest(file)
    if chosen.kind == TRAINED_HERE:
        own = {"classifier", "seed"}
        said |= features.model_dump(mode="json", include=own)
    return parameters_digest(said)


def extractor_of(stored: TensorFile, runtime: Runtime) -> FeatureExtractor:
    """Return the extractor of a ``feature_extractor`` or ``check_extractor`` file.

    Raises:
        DataError: The weights that it names are not there any more, or are other ones.
    """
    device, about = choose_device(runtime.device), stored.metadata
    if "extractor" not in about:
        return classifier_extractor(stored.tensors, about, device)
    extractor = build_extractor(Extractor.model_validate(about["extractor"]), device)
    if extractor.digest != about["digest"]:
        raise DataError(
            f"the weights of the feature extractor {extractor.name} changed since references were "
            "measured with them. Run again from the start of the stage, which measures anew."
        )
    return extractor


@dataclass(frozen=True)
class RealImages:
    """Real images, by one extractor: statistics of all and features of some.

    ``features``, ``(K, D)``, are None where third-party statistics are all that is known.
    """

    title: str
    digest: str
    frechet: FrechetReference
    features: Tensor | None

    @property
    def num_images(self) -> int:
        """Number of real images that the statistics are of."""
        return self.frechet.statistics.num_images

    def require_width(self, num_features: int) -> None:
        """Refuse what another extractor found.

        Raises:
            DataError: These images have another number of features than ``num_features``.
        """
        own = len(self.frechet.statistics.mu)
        if own != num_features:
            raise DataError(
                f"images have {num_features} features each, those of {self.title} {own}: they are "
                "of two extractors."
            )

    def frechet_distance(self, found: FeatureSet) -> float:
        """Return the squared Frechet distance of generated images: all of them come through here.

        Raises:
            DataError: They have another number of features.
        """
        self.require_width(found.kept.shape[1])
        if found.blocks:
            return self.frechet.distance(found.statistics)
        return self.frechet.distance_of_features(found.kept)

    def kernel_distance(self, found: FeatureSet) -> KernelDistance:
        """Return the kernel distance of the features that are kept."""
        assert self.features is not None
        return kernel_distance(found.kept, self.features)

    def manifold_metrics(self, found: FeatureSet) -> ManifoldMetrics | None:
        """Return precision, recall, density and coverage of the features that are kept.

        None, once with a line in the log, where there are too few for a fifth neighbour.

        They are of as many generated images as real ones, as in the papers: more of one kind would
        make its manifold larger. Real images are taken at random: they come in the order of their
        files.
        """
        assert self.features is not None
        count = min(len(self.features), len(found.kept))
        if count <= NEIGHBOUR_OF_DENSITY:
            _tell_left_out(self.title, count)
            return None
        generator = derived_generator(0, "as many real images", count)
        real = self.features[random_subset(len(self.features), count, generator)]
        return manifold_metrics(real, found.kept[:count])


@cache
def _tell_left_out(title: str, count: int) -> None:
    logger.warning(
        "Precision, recall, density and coverage of %d images by those of %s are left out: they "
        "need %d of both.",
        *(count, title, NEIGHBOUR_OF_DENSITY + 1),
    )


@dataclass(frozen=True)
class FeatureSpace:
    """An extractor and the real images that it has seen.

    ``references`` are compared with; ``held_out`` are real images to compare as if generated.
    """

    extractor: FeatureExtractor
    references: tuple[RealImages, ...]
    held_out: RealImages | None = None


def real_images(stored: TensorFile, split: str, prefix: str = "") -> RealImages:
    """Return the real images of a split, or of ``all`` splits together.

    Args:
        stored: What extractors found in them.
        split: One of ``SPLITS``, or ``all``.
        prefix: Begins the names of what one extractor found: none, ``CHECK``, or a number.
    """
    parts = SPLITS if split == "all" else (split,)
    counts = stored.metadata["num_images"]
    found = [
        FeatureStatistics(
            stored.tensors[f"{prefix}{part}.mu"],
            stored.tensors[f"{prefix}{part}.cov"],
            counts[part],
        )
        for part in parts
    ]
    statistics = found[0]
    if len(parts) > 1:
        moments = [FeatureMoments.of(part) for part in found]
        statistics = FeatureMoments.merged(moments).statistics()
    kept = {part: stored.tensors[f"{prefix}{part}.features"] for part in parts}
    features = _equal_shares(kept, counts)
    digest = stored.metadata["images"]
    return RealImages(TITLES[split], digest, FrechetReference(statistics), features)


def _equal_shares(kept: dict[str, Tensor], counts: dict[str, int]) -> Tensor:
    """Return features of as large a share of the images of each split."""
    share = min(len(features) / counts[part] for part, features in kept.items())
    chosen = []
    for part, features in kept.items():
        generator = derived_generator(0, "kept features of all", part)
        number = round(share * counts[part])
        chosen.append(features[random_subset(len(features), number, generator)])
    return torch.cat(chosen)


def real_images_of(features: Tensor, title: str) -> RealImages:
    """Return the real images whose features, ``(N, D)``, are given."""
    frechet = FrechetReference(feature_statistics(features))
    return RealImages(title, "", frechet, features.float())


def external_images(given: TensorFile) -> RealImages:
    """Return the real images of third-party statistics."""
    about, tensors = given.metadata, given.tensors
    num_images = about["num_images"]
    statistics = FeatureStatistics(tensors["mu"], tensors["sigma"], num_images)
    title = f"{about['path']} ({about['protocol']})"
    return RealImages(title, about["digest"], FrechetReference(statistics), None)
