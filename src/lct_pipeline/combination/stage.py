"""What all nodes of the stage build from their inputs: weights, source and references."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from lct_pipeline.combination.fitness import RealFeatures
from lct_pipeline.combination.measuring import Measurer
from lct_pipeline.combination.members import Members, members_of
from lct_pipeline.combination.sources import SourceTask
from lct_pipeline.combination.weights import CombinedWeights
from lct_pipeline.core.metrics.frechet import feature_statistics
from lct_pipeline.datasets.checkpoints import CheckpointCatalog
from lct_pipeline.datasets.decoder import Decoder
from lct_pipeline.datasets.reference import Reference
from lct_pipeline.errors import DataError
from lct_pipeline.evaluation.extractors import extractor_of
from lct_pipeline.evaluation.references import statistics_of
from lct_pipeline.models.features.extractors import FeatureExtractor
from lct_pipeline.models.importing import imported
from lct_pipeline.parameters import Combination, Runtime, Sampling

# three image splits, each with noise of its own: no figure is measured on what it was chosen by
SEARCH_SPLIT, CHOICE_SPLIT, FINAL_SPLIT = "train", "validation", "test"
LEAST = 6  # real images: density and coverage take the fifth neighbour


@dataclass(frozen=True)
class Stage:
    """The inputs that the nodes of the stage share."""

    catalog: CheckpointCatalog
    decoder: Decoder | None
    real: Reference
    parameters: Combination
    sampling: Sampling
    runtime: Runtime

    @cached_property
    def members(self) -> Members:
        """Return the checkpoints that coefficients run over."""
        return members_of(self.catalog.rows, self.parameters.window)

    @cached_property
    def weights(self) -> CombinedWeights:
        """Return what makes combinations of all members."""
        return CombinedWeights(
            self.members.rows, self.catalog.store, self.parameters.memory_mib
        )

    @cached_property
    def task(self) -> SourceTask:
        """Return what a process needs to generate and extract."""
        newest = self.members.window["name"].iloc[-1]
        gives_features = self.parameters.references is not None
        return SourceTask(
            network=self.catalog.store.header(newest)["network"],
            decoder=self.decoder,
            extractor=None if gives_features else self.real.extractor,
            parameters=self.parameters,
            sampling=self.sampling,
            runtime=self.runtime,
        )

    @cached_property
    def extractor(self) -> FeatureExtractor | None:
        """Return the extractor that is searched by; None where the source gives features."""
        return self.task.built_extractor()

    @property
    def metric(self) -> str:
        """Return the name of the Frechet distance."""
        return self.extractor.frechet_name if self.extractor else "frechet_distance"

    @property
    def check_extractor(self) -> FeatureExtractor | None:
        """Return the extractor that is not searched by; None where the source gives features."""
        if self.parameters.references is not None:
            return None
        return extractor_of(self.real.check_extractor, self.runtime)

    def reference(self, split: str, prefix: str = "") -> RealFeatures:
        """Return what is compared with, by one extractor."""
        if self.parameters.references is None:
            features = self.real.statistics.tensors[f"{prefix}{split}.features"]
            statistics = statistics_of(self.real.statistics, split, prefix)
            return RealFeatures(statistics, features)
        path = self.parameters.references
        features = imported(path, "combination.references")(split)
        check_real_features(features)
        return RealFeatures(feature_statistics(features), features.float())

    def measurer(self, most: int, split: str) -> Measurer:
        """Return what measures candidates against a split, at most so many at a time."""
        return Measurer(self.weights, self.task, self.reference(split), most)


def check_real_features(features: Any) -> None:
    """Refuse what is not features of as many real images as all metrics need.

    Raises:
        DataError: The function of the user gave it.
    """
    found = type(features).__name__
    if isinstance(features, torch.Tensor):
        is_matrix = features.is_floating_point() and features.ndim == 2
        if is_matrix and len(features) >= LEAST and features.isfinite().all():
            return
        found = f"{features.dtype} of shape {tuple(features.shape)}"
        if is_matrix and len(features) >= LEAST:
            found = "values that are not finite"
    raise DataError(
        f"combination.references must return float features (N, D) of at least {LEAST} real "
        f"images; it gave {found}."
    )
