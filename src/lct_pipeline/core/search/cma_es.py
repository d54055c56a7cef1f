"""CMA-ES (Hansen 2016) over the differences of coefficients, by pycma."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from lct_pipeline.core.search.base import Search, sum_zero_basis

if TYPE_CHECKING:
    from cma import CMAEvolutionStrategy


class CMASearch(Search):
    """alpha = alpha_0 + B z, with alpha_0 the best of the start and B directions of sum 0.

    Its search mean is that of the distribution. All K coefficients are treated alike, which they
    are not where one of them is 1 minus the sum of the others.

    Args:
        initial: Initial coefficients, ``(I, K)``.
        scale: Initial standard deviation of each coefficient, over the square root of K.
        settings: See :class:`Search`.
    """

    def __init__(self, initial: np.ndarray, *, scale: float, **settings: Any) -> None:
        super().__init__(initial, **settings)
        K = self.initial.shape[1]
        self._scale = scale / np.sqrt(K)
        self._basis = sum_zero_basis(K)
        self._start = self.initial[0]
        self._strategy: CMAEvolutionStrategy | None = None
        self._drawn = np.empty((0, K - 1))

    @property
    def mean(self) -> np.ndarray:
        """Return the mean of the distribution."""
        if self._strategy is None:
            return self._start
        return self._start + self._basis @ self._strategy.mean

    def _propose(self, rng: np.random.Generator, num: int) -> np.ndarray:
        if self._strategy is None:
            self._strategy = self._new_strategy()
        self._drawn = np.stack(self._strategy.ask(num))
        return self._start + self._drawn @ self._basis.T

    def _learn(
        self, alphas: np.ndarray, fitness: np.ndarray, gradients: np.ndarray | None
    ) -> None:
        if self.generation == 0:
            self._start = alphas[int(np.argmin(fitness))]
            return
        assert self._strategy is not None
        if len(fitness) == self._strategy.popsize:
            self._strategy.tell(list(self._drawn), fitness.tolist())

    def _new_strategy(self) -> CMAEvolutionStrategy:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pycma advises a smaller population
            import cma

            rng = np.random.default_rng([self.seed, 0])
            options = {
                "popsize": max(2, min(self.population, self._num_affordable())),
                "seed": np.nan,  # numpy's global state is neither read nor set
                "randn": lambda *shape: rng.standard_normal(shape),
                "verbose": -9,
            }
            dimension = self._basis.shape[1]
            return cma.CMAEvolutionStrategy(np.zeros(dimension), self._scale, options)
