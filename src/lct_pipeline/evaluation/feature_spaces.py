"""Where images are compared: a feature extractor, with what it finds in real images."""

from __future__ import annotations

from dataclasses import dataclass

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
from lct_pipeline.core.metrics.manifolds import ManifoldMetrics, manifold_metrics
from lct_pipeline.core.randomness import derived_generator
from lct_pipeline.core.sample_quality import random_subset
from lct_pipeline.datasets.splits import SPLITS
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import DataError
from lct_pipeline.evaluation.references import statistics_of
from lct_pipeline.models.features.extractors import FeatureExtractor

# as they are called in the column `reference`
TITLES = {
    "train": "the training split",
    "validation": "the validation split",
    "test": "the test split",
    "all": "all real images",
}


@dataclass(frozen=True)
class RealImages:
    """Real images, by one extractor: statistics of all and features of some.

    ``features``, ``(K, D)``, are None where somebody else's statistics are all that is known.
    """

    title: str
    digest: str
    frechet: FrechetReference
    features: Tensor | None

    @property
    def num_images(self) -> int:
        """Number of real images that the statistics are of."""
        return self.frechet.statistics.num_images

    def frechet_distance(self, found: FeatureSet) -> float:
        """Return the squared Frechet distance of generated images: all of them come through here.

        Raises:
            DataError: They have another number of features.
        """
        num_features = len(self.frechet.statistics.mu)
        if found.kept.shape[1] != num_features:
            raise DataError(
                f"generated images have {found.kept.shape[1]} features each, those of {self.title} "
                f"{num_features}: they are of two extractors."
            )
        if found.blocks:
            return self.frechet.distance(found.statistics)
        return self.frechet.distance_of_features(found.kept)

    def kernel_distance(self, found: FeatureSet) -> KernelDistance:
        """Return the kernel distance of the features that are kept."""
        assert self.features is not None
        return kernel_distance(found.kept, self.features)

    def manifold_metrics(self, found: FeatureSet) -> ManifoldMetrics:
        """Return precision, recall, density and coverage of the features that are kept.

        They are of as many generated images as real ones, as in the papers: more of one kind would
        make its manifold larger. Real images are taken at random: they come in the order of their
        files.
        """
        assert self.features is not None
        count = min(len(self.features), len(found.kept))
        generator = derived_generator(0, "as many real images", count)
        real = self.features[random_subset(len(self.features), count, generator)]
        return manifold_metrics(real, found.kept[:count])


@dataclass(frozen=True)
class FeatureSpace:
    """An extractor and the real images that it has seen.

    ``references`` are compared with; ``held_out`` are real images to compare as if generated.
    """

    extractor: FeatureExtractor
    references: tuple[RealImages, ...]
    held_out: RealImages | None = None


def feature_space(
    extractor: FeatureExtractor,
    stored: TensorFile,
    split: str,
    prefix: str,
    given: TensorFile | None = None,
) -> FeatureSpace:
    """Return an extractor with the references that were measured, and those that were given.

    Args:
        extractor: The extractor.
        stored: What it found in real images.
        split: The images to compare with: one of ``SPLITS``, or ``all``.
        prefix: Begins the names of what it found.
        given: Somebody else's ``mu`` and ``sigma``.
    """
    references = [real_images(stored, split, prefix)]
    if given is not None:
        num_features = len(references[0].frechet.statistics.mu)
        references.append(real_images_of_others(given, num_features))
    held_out = real_images(stored, "validation", prefix)
    return FeatureSpace(extractor, tuple(references), held_out)


def real_images(stored: TensorFile, split: str, prefix: str = "") -> RealImages:
    """Return the real images of a split, or of ``all`` splits together."""
    parts = SPLITS if split == "all" else (split,)
    statistics = _merged([statistics_of(stored, part, prefix) for part in parts])
    features = _kept(stored, parts, prefix)
    digest = stored.metadata["images"]
    return RealImages(TITLES[split], digest, FrechetReference(statistics), features)


def real_images_of(features: Tensor, title: str) -> RealImages:
    """Return the real images whose features, ``(N, D)``, somebody gives."""
    frechet = FrechetReference(feature_statistics(features))
    return RealImages(title, "", frechet, features.float())


def _merged(parts: list[FeatureStatistics]) -> FeatureStatistics:
    moments = FeatureMoments.of(parts[0])
    for part in parts[1:]:
        moments.merge(FeatureMoments.of(part))
    return moments.statistics() if len(parts) > 1 else parts[0]


def _kept(stored: TensorFile, parts: tuple[str, ...], prefix: str) -> Tensor:
    """Return features of as large a share of each split."""
    kept = {part: stored.tensors[f"{prefix}{part}.features"] for part in parts}
    counts = stored.metadata["num_images"]
    share = min(len(kept[part]) / counts[part] for part in parts)
    chosen = []
    for part, features in kept.items():
        generator = derived_generator(0, "kept features of all", part)
        number = round(share * counts[part])
        chosen.append(features[random_subset(len(features), number, generator)])
    return torch.cat(chosen)


def real_images_of_others(given: TensorFile, num_features: int) -> RealImages:
    """Return somebody else's statistics.

    Raises:
        DataError: They are of another number of features than the extractor's.
    """
    about, mu = given.metadata, given.tensors["mu"]
    if len(mu) != num_features:
        raise DataError(
            f"{about['path']} has {len(mu)} features, and the feature extractor has "
            f"{num_features}: it is of another extractor."
        )
    statistics = FeatureStatistics(mu, given.tensors["sigma"], about["num_images"])
    title = f"{about['path']} ({about['protocol']})"
    return RealImages(title, about["digest"], FrechetReference(statistics), None)
