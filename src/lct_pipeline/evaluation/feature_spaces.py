"""Where images are compared: a feature extractor, with what it finds in real images."""

from __future__ import annotations

from dataclasses import dataclass, replace

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
from lct_pipeline.models.features.base import FeatureExtractor

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

    def beside(self, reference: RealImages) -> FeatureSpace:
        """Return the space with one more reference.

        Raises:
            DataError: It is of another extractor.
        """
        reference.require_width(len(self.references[0].frechet.statistics.mu))
        return replace(self, references=(*self.references, reference))


def real_images(stored: TensorFile, split: str, prefix: str = "") -> RealImages:
    """Return the real images of a split, or of ``all`` splits together.

    Args:
        stored: What extractors found in them.
        split: One of ``SPLITS``, or ``all``.
        prefix: Begins the names of what one extractor found: none, ``CHECK``, or a number.
    """
    parts = SPLITS if split == "all" else (split,)
    found = {part: _statistics(stored, part, prefix) for part in parts}
    statistics = found[parts[0]]
    if len(parts) > 1:
        moments = [FeatureMoments.of(part) for part in found.values()]
        statistics = FeatureMoments.merged(moments).statistics()
    features = _kept(stored, parts, prefix)
    digest = stored.metadata["images"]
    return RealImages(TITLES[split], digest, FrechetReference(statistics), features)


def _statistics(stored: TensorFile, split: str, prefix: str) -> FeatureStatistics:
    mu, cov = (stored.tensors[f"{prefix}{split}.{name}"] for name in ("mu", "cov"))
    return FeatureStatistics(mu, cov, stored.metadata["num_images"][split])


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
