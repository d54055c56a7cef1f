"""Measures candidates, in this process or in several: weights through one shared buffer.

The weights of a group of candidates are combined once, into memory that all processes see; a
process gets the number of a row. So checkpoints are read once however many processes there are,
and the scores do not depend on their number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from lct_pipeline.combination.fitness import Fitness, Score
from lct_pipeline.combination.sources import Request, SourceTask
from lct_pipeline.combination.weights import CombinedWeights
from lct_pipeline.core.linear_combination import WeightLayout
from lct_pipeline.evaluation.feature_spaces import RealImages
from lct_pipeline.models.device import choose_device
from lct_pipeline.processes.mapping import Workers


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
            alphas: Coefficients of all candidates, ``(P, K)``. They are combined in groups that
                depend on P alone, so what is left of a generation gets the same weights.
            request: How they are measured.
            skip: Candidates that are known already.
        """
        size = len(self._buffer)
        for start in range(0, len(alphas), size):
            numbers = range(start, min(start + size, len(alphas)))
            left = {n - start: n for n in numbers if n not in skip}
            if left:
                group = alphas[numbers.start : numbers.stop]
                self._weights.combine(group, self._buffer[: len(group)].numpy())
                scores = self._workers.map([(row, request) for row in left])
                yield from zip(left.values(), scores, strict=True)


def _row_measure(
    task: SourceTask, real: RealImages, layout: WeightLayout, buffer: Tensor
) -> Callable[[tuple[int, Request]], Score]:
    """Return what measures the weights that lie in a row of the buffer."""
    fitness = Fitness(task, real)

    def measure(of: tuple[int, Request]) -> Score:
        row, request = of
        score = fitness.measure(layout.unflatten(buffer[row].numpy()), request)
        if score.gradients is None:
            return score
        return replace(
            score, gradients={k: g.cpu() for k, g in score.gradients.items()}
        )

    return measure
