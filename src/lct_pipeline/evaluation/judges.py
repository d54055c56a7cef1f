"""Who judges generated images: a feature extractor, with all that they are compared with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lct_pipeline.core.metrics.frechet import (
    FeatureMoments,
    FeatureStatistics,
    FrechetReference,
)
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
class Reference:
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


@dataclass(frozen=True)
class Judge:
    """An extractor and what it compares with; ``held_out`` are real images to compare likewise."""

    extractor: FeatureExtractor
    references: tuple[Reference, ...]
    held_out: Reference | None


def judge_of(
    extractor: FeatureExtractor,
    stored: TensorFile,
    split: str,
    prefix: str,
    given: TensorFile | None = None,
) -> Judge:
    """Return a judge whose references were measured, and the ones that were given.

    Args:
        extractor: Its extractor.
        stored: What it found in real images.
        split: The images to compare with: one of ``SPLITS``, or ``all``.
        prefix: Begins the names of what it found.
        given: Somebody else's ``mu`` and ``sigma``.
    """
    references = [reference_of(stored, split, prefix)]
    if given is not None:
        num_features = len(references[0].frechet.statistics.mu)
        references.append(reference_of_others(given, num_features))
    held_out = reference_of(stored, "validation", prefix)
    return Judge(extractor, tuple(references), held_out)


def reference_of(stored: TensorFile, split: str, prefix: str) -> Reference:
    """Return the real images of a split, or of all splits together."""
    parts = SPLITS if split == "all" else (split,)
    statistics = _merged([statistics_of(stored, part, prefix) for part in parts])
    features = _kept(stored, parts, prefix)
    digest = stored.metadata["images"]
    return Reference(TITLES[split], digest, FrechetReference(statistics), features)


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


def reference_of_others(given: TensorFile, num_features: int) -> Reference:
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
    return Reference(title, about["digest"], FrechetReference(statistics), None)
