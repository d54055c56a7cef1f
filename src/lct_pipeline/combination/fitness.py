"""From weights to the distance of what they generate: what a search minimises."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from lct_pipeline.combination.sources import (
    ModelSource,
    Request,
    SourceTask,
    Weights,
)
from lct_pipeline.core.metrics.feature_sets import FeatureSet
from lct_pipeline.core.metrics.gradients import frechet_gradient, kernel_gradient
from lct_pipeline.errors import ParameterError
from lct_pipeline.evaluation.evaluator import Evaluator
from lct_pipeline.evaluation.feature_spaces import FeatureSpace, RealImages
from lct_pipeline.parameters.combination import Fitness as FitnessSettings


@dataclass(frozen=True)
class Score:
    """The fitness of a candidate, its parts, and its derivative by each weight where asked for."""

    fitness: float
    frechet: float
    kernel: float | None
    gradients: dict[str, Tensor] | None = None


def scored(found: FeatureSet, real: RealImages, settings: FitnessSettings) -> Score:
    """Return the weighted sum of Frechet and kernel distance; without weight none is measured."""
    frechet = real.frechet_distance(found)
    fitness, kernel = settings.frechet_weight * frechet, None
    if settings.kernel_weight > 0:
        kernel = real.kernel_distance(found).value
        fitness += settings.kernel_weight * kernel
    return Score(fitness, frechet, kernel)


class Fitness:
    """Weighted sum of Frechet and kernel distance to real images; lower is better.

    Args:
        task: What to generate with, and the weights of the sum.
        real: What to compare with, by the first extractor.
    """

    def __init__(self, task: SourceTask, real: RealImages) -> None:
        self._source = task.source()
        self._settings, self._real = task.parameters.fitness, real
        self._extractor = task.built_extractor()
        self._evaluator = Evaluator((FeatureSpace(self._extractor, (real,)),))

    def measure(self, weights: Weights, request: Request) -> Score:
        """Return the score of a state dict."""
        batches = self._source.batches(weights, request)
        (found,) = self._evaluator.features(batches, request.num_images)
        score = scored(found, self._real, self._settings)
        if not request.gradients:
            return score
        return replace(score, gradients=self._gradients(found.kept, request))

    def _gradients(self, features: Tensor, request: Request) -> dict[str, Tensor]:
        """Return the derivative by the weights that the source has just been given."""
        assert isinstance(self._source, ModelSource)
        assert self._real.features is not None
        if self._extractor.differentiate is None:
            raise ParameterError(
                f"the feature extractor {self._extractor.name} cannot be differentiated, and the "
                "gradient search goes through it: give combination.search.methods=[cma], or "
                "evolution."
            )
        settings = self._settings
        by_feature = frechet_gradient(self._real.frechet, features)
        by_feature *= settings.frechet_weight
        if settings.kernel_weight > 0:
            by_kernel = kernel_gradient(features, self._real.features)
            by_feature += settings.kernel_weight * by_kernel
        return self._source.generator.gradients(
            by_feature,
            self._extractor.differentiate,
            seed=request.seed,
            purpose=request.purpose,
        )
