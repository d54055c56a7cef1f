"""Random search: the control that any better search has to beat with the same budget."""

from __future__ import annotations

from typing import Any

import numpy as np

from lct_pipeline.core.search.base import Search, sum_zero_basis


class RandomSearch(Search):
    """Gaussian perturbations of the best of the start, which learn nothing from each other.

    It has no mean: the best that it found is in its place.

    Args:
        initial: Initial coefficients, ``(I, K)``.
        scale: Standard deviation of the perturbations, over the square root of K, times a
            log-normal factor, so that steps of several sizes are tried.
        settings: See :class:`Search`.
    """

    def __init__(self, initial: np.ndarray, *, scale: float, **settings: Any) -> None:
        super().__init__(initial, **settings)
        self._scale = scale
        self._basis = sum_zero_basis(self.initial.shape[1])
        self._start = self._best = self.initial[0]
        self._best_fitness = np.inf

    @property
    def mean(self) -> np.ndarray:
        """Return the best coefficients so far."""
        return self._best

    def _propose(self, rng: np.random.Generator, num: int) -> np.ndarray:
        K = len(self._start)
        steps = self._scale / np.sqrt(K) * np.exp(rng.normal(size=(num, 1)))
        return self._start + steps * rng.normal(size=(num, K - 1)) @ self._basis.T

    def _learn(
        self, alphas: np.ndarray, fitness: np.ndarray, gradients: np.ndarray | None
    ) -> None:
        best = int(np.argmin(fitness))
        if fitness[best] < self._best_fitness:
            self._best, self._best_fitness = alphas[best], float(fitness[best])
        if self.generation == 0:
            self._start = self._best
