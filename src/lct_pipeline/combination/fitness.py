"""From weights to the distance of what they generate: the fitness, and what a report measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from lct_pipeline.combination.sources import (
    ModelSource,
    Source,
    SourceTask,
)
from lct_pipeline.core.metrics.frechet import FrechetReference
from lct_pipeline.core.metrics.gradients import frechet_gradient, kernel_gradient
from lct_pipeline.core.metrics.kernel import kernel_distance
from lct_pipeline.errors import DataError, ParameterError

if TYPE_CHECKING:
    from torch import Tensor

    from lct_pipeline.core.metrics.frechet import FeatureStatistics

    Extract = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Request:
    """How candidates are measured: on which noise, and on how many images."""

    purpose: str  # of the noise; the same purpose is the same noise
    num_images: int
    seed: int
    gradients: bool = False


@dataclass(frozen=True)
class Score:
    """The fitness of a candidate, its parts, and its derivative by each weight where asked for."""

    fitness: float
    frechet: float
    kernel: float | None
    gradients: dict[str, Tensor] | None = None


@dataclass(frozen=True)
class RealFeatures:
    """Real features that candidates are compared with: statistics of all, features of some."""

    statistics: FeatureStatistics
    features: Tensor


class Fitness:
    """Weighted sum of Frechet and kernel distance to real images; lower is better.

    Args:
        task: What to generate with, and the weights of the sum.
        reference: What to compare with, by the first extractor.
    """

    def __init__(self, task: SourceTask, reference: RealFeatures) -> None:
        self._source: Source = task.source()
        self._extractor = task.built_extractor()
        self._settings = task.parameters.fitness
        self._frechet = FrechetReference(reference.statistics)
        self._real = reference.features

    def measure(self, weights: Mapping[str, Tensor], request: Request) -> Score:
        """Return the score of a state dict."""
        self._source.load(weights)
        features = self.features(request)
        if features.shape[1] != self._real.shape[1]:
            raise DataError(
                f"combination.generator gives features of {features.shape[1]} values an image, "
                f"combination.references of {self._real.shape[1]}."
            )
        settings = self._settings
        frechet = self._frechet.distance_of_features(features)
        fitness, kernel = settings.frechet_weight * frechet, None
        if settings.kernel_weight > 0:
            kernel = kernel_distance(features, self._real).value
            fitness += settings.kernel_weight * kernel
        gradients = self._gradients(features, request) if request.gradients else None
        return Score(fitness, frechet, kernel, gradients)

    def features(self, request: Request) -> Tensor:
        """Return the features, ``(N, D)``, of what is generated now.

        Raises:
            DataError: There are other than N, or the function of the user gives something else.
        """
        extract = self._extractor.extract if self._extractor else None
        return features_of_source(self._source, [extract], request)[0]

    def _gradients(self, features: Tensor, request: Request) -> dict[str, Tensor]:
        assert isinstance(self._source, ModelSource) and self._extractor is not None
        if self._extractor.differentiate is None:
            raise ParameterError(
                f"the feature extractor {self._extractor.name} cannot be differentiated, and the "
                "gradient search goes through it: give combination.search.methods=[cma], or "
                "evolution."
            )
        settings = self._settings
        by_feature = settings.frechet_weight * frechet_gradient(self._frechet, features)
        if settings.kernel_weight > 0:
            by_feature += settings.kernel_weight * kernel_gradient(features, self._real)
        return self._source.generator.gradients(
            by_feature,
            self._extractor.differentiate,
            seed=request.seed,
            purpose=request.purpose,
        )


def features_of_source(
    source: Source, extracts: Sequence[Extract | None], request: Request
) -> list[Tensor]:
    """Return the features, ``(N, D)``, of ``request.num_images`` images, by each extractor.

    Args:
        source: Has the weights.
        extracts: Each maps uint8 images to features; None stands for a source that gives features.
        request: Noise and number.

    Raises:
        DataError: A function of the user gives something else.
    """
    parts: list[list[Tensor]] = [[] for _ in extracts]
    with torch.no_grad():
        for batch in source.batches(request.num_images, request.seed, request.purpose):
            for found, extract in zip(parts, extracts, strict=True):
                found.append(_features(batch, extract))
    num_images = sum(len(part) for part in parts[0])
    if num_images != request.num_images:
        raise DataError(
            f"combination.generator gave {num_images} images where {request.num_images} were "
            "asked for."
        )
    features = [torch.cat(found) for found in parts]
    if not all(found.isfinite().all() for found in features):
        raise DataError("combination.generator gave values that are not finite.")
    return features


def _features(batch: Tensor, extract: Extract | None) -> Tensor:
    """Return the features, ``(B, D)``, of a batch that a source made."""
    found = type(batch).__name__
    if isinstance(batch, torch.Tensor):
        is_images = batch.dtype == torch.uint8 and batch.shape[1:2] == (3,)
        if extract is not None and is_images and batch.ndim == 4:
            return extract(batch).float().cpu()
        if extract is None and batch.is_floating_point() and batch.ndim == 2:
            return batch.float().cpu()
        found = f"{batch.dtype} of shape {tuple(batch.shape)}"
    raise DataError(
        "combination.generator must yield batches of uint8 images (B, 3, H, W), or, with "
        f"combination.references, of float features (B, D); it gave {found}."
    )
