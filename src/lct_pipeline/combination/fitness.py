"""From weights to the distance of what they generate: what a search minimises.

Candidates are measured in this process or in several. The weights of a group of them are combined
once, into memory that all processes see; a process gets the number of a row. So checkpoints are
read once however many processes there are, and the scores do not depend on their number.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from lct_pipeline.combination.sources import (
    ModelSource,
    Request,
    SourceTask,
    Weights,
)
from lct_pipeline.combination.weights import CombinedWeights
from lct_pipeline.core.linear_combination import WeightLayout
from lct_pipeline.core.metrics.feature_sets import FeatureSet
from lct_pipeline.core.metrics.frechet import frechet_gradient
from lct_pipeline.core.metrics.kernel import kernel_gradient
from lct_pipeline.errors import MeasureError, ParameterError
from lct_pipeline.evaluation.evaluator import Evaluator
from lct_pipeline.evaluation.feature_spaces import FeatureSpace, RealImages
from lct_pipeline.models.device import choose_device
from lct_pipeline.parameters.combination import Fitness as FitnessSettings
from lct_pipeline.processes.mapping import Workers

logger = logging.getLogger(__name__)

# of eigenvalues of features that are not finite, too
FAULTS = (MeasureError, torch.linalg.LinAlgError, np.linalg.LinAlgError)


@dataclass(frozen=True)
class Score:
    """The fitness of a candidate, its parts, and its derivative by each weight where asked for.

    The fitness is infinite where nothing can be measured; ``fault`` says why.
    """

    fitness: float
    frechet: float
    kernel: float | None
    gradients: dict[str, Tensor] | None = None
    fault: str | None = None


def tell_faults(title: str, num: int, total: int, faults: list[str]) -> None:
    """Warn, in one line, of what could not be measured, with the last reason that is known."""
    if num:
        logger.warning(
            "%s: %d of %d could not be measured and have an infinite fitness%s",
            *(title, num, total, f". The last: {faults[-1]}" if faults else "."),
        )


def scored(found: FeatureSet, real: RealImages, settings: FitnessSettings) -> Score:
    """Return the weighted sum of Frechet and kernel distance; without weight none is measured.

    Raises:
        MeasureError: It is not finite.
    """
    frechet = real.frechet_distance(found)
    fitness, kernel = settings.frechet_weight * frechet, None
    if settings.kernel_weight > 0:
        kernel = real.kernel_distance(found).value
        fitness += settings.kernel_weight * kernel
    if not math.isfinite(fitness):
        raise MeasureError(f"the distance to real images is {fitness}.")
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
        """Return the score of a state dict, an infinite one where nothing can be measured."""
        try:
            return self._measured(weights, request)
        except FAULTS as error:
            return Score(math.inf, math.inf, None, fault=str(error))

    def _measured(self, weights: Weights, request: Request) -> Score:
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
        by_weight = self._source.generator.gradients(
            by_feature,
            self._extractor.differentiate,
            seed=request.seed,
            purpose=request.purpose,
        )
        return {name: gradient.cpu() for name, gradient in by_weight.items()}


class Measurer:
    """Measures coefficients over all members.

    Args:
        weights: Gives combinations.
        task: What to generate with.
        real: What to compare with.
        most: No more candidates than these are measured at a time.
    """

    def __init__(
        self,
        weights: CombinedWeights,
        task: SourceTask,
        real: RealImages,
        most: int,
    ) -> None:
        self._weights = weights
        num_rows = min(most, weights.group_size)
        self._buffer = torch.empty(num_rows, weights.num_weights)
        num_processes = min(task.runtime.num_processes, num_rows)
        if num_processes > 1:
            self._buffer.share_memory_()
        self._workers = Workers(
            partial(_row_measure, task, real, weights.layout, self._buffer),
            "search",
            num_processes,
            choose_device(task.runtime.device),
        )

    def close(self) -> None:
        """End the processes."""
        self._workers.close()

    def measure(
        self, alphas: np.ndarray, request: Request, skip: frozenset[int] = frozenset()
    ) -> Iterator[tuple[int, Score]]:
        """Yield the number of each candidate and its score, in order.

        Args:
            alphas: Coefficients of all candidates, ``(P, K)``.
            request: How they are measured.
            skip: Candidates that are known already.
        """
        size = len(self._buffer)
        left = [number for number in range(len(alphas)) if number not in skip]
        for start in range(0, len(left), size):
            group = left[start : start + size]
            self._weights.combine(alphas[group], self._buffer[: len(group)].numpy())
            scores = self._workers.map([(row, request) for row in range(len(group))])
            yield from zip(group, scores, strict=True)


def _row_measure(
    task: SourceTask, real: RealImages, layout: WeightLayout, buffer: Tensor
) -> Callable[[tuple[int, Request]], Score]:
    """Return what measures the weights that lie in a row of the buffer."""
    fitness = Fitness(task, real)

    def measure(of: tuple[int, Request]) -> Score:
        row, request = of
        return fitness.measure(layout.unflatten(buffer[row].numpy()), request)

    return measure
