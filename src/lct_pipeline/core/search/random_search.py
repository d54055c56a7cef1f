"""Random search: the control that any better search has to beat with the same budget."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

import numpy as np

from lct_pipeline.core.search.base import Search, sum_zero_basis


@dataclass(eq=False)
class RandomSearch(Search):
    """Gaussian perturbations of the best of the start, which learn nothing from each other.

    It has no mean: the best that it found is in its place.

    Attributes:
        scale: Standard deviation of the perturbations, over the square root of K, times a
            log-normal factor, so that steps of several sizes are tried.
    """

    _: KW_ONLY
    scale: float = 0.6  # found most in searches of the built-in digits

    def __post_init__(self) -> None:
        super().__post_init__()
        self._best, self._best_fitness = self.start, np.inf

    @property
    def mean(self) -> np.ndarray:
        """Return the best coefficients so far."""
        return self._best

    def _propose(self, rng: np.random.Generator, num: int) -> np.ndarray:
        K = len(self.start)
        steps = self.scale / np.sqrt(K) * np.exp(rng.normal(size=(num, 1)))
        return self.start + steps * rng.normal(size=(num, K - 1)) @ sum_zero_basis(K).T

    def _learn(
        self, alphas: np.ndarray, fitness: np.ndarray, gradients: np.ndarray | None
    ) -> None:
        best = int(np.argmin(fitness))
        if fitness[best] < self._best_fitness:
            self._best, self._best_fitness = alphas[best], float(fitness[best])
