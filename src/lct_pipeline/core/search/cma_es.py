"""CMA-ES (Hansen 2016) over the differences of coefficients, by pycma."""

from __future__ import annotations

import warnings
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

import numpy as np

from lct_pipeline.core.search.base import Search, sum_zero_basis

if TYPE_CHECKING:
    from cma import CMAEvolutionStrategy


@dataclass(eq=False)
class CMASearch(Search):
    """alpha = alpha_0 + B z, with alpha_0 the best of the start and B directions of sum 0.

    Its search mean is that of the distribution. All K coefficients are treated alike, which they
    are not where one of them is 1 minus the sum of the others.

    Attributes:
        scale: Initial standard deviation of each coefficient, over the square root of K.
    """

    _: KW_ONLY
    scale: float = 0.3  # found most in searches of the built-in digits

    def __post_init__(self) -> None:
        super().__post_init__()
        self._basis = sum_zero_basis(self.initial.shape[1])
        self._strategy: CMAEvolutionStrategy | None = None

    @property
    def mean(self) -> np.ndarray:
        """Return the mean of the distribution."""
        if self._strategy is None:
            return self.start
        return self.start + self._basis @ self._strategy.mean

    def _propose(self, rng: np.random.Generator, num: int) -> np.ndarray:
        if self._strategy is None:
            self._strategy = self._new_strategy()
        self._drawn = np.stack(self._strategy.ask(num))
        return self.start + self._drawn @ self._basis.T

    def _learn(
        self, alphas: np.ndarray, fitness: np.ndarray, gradients: np.ndarray | None
    ) -> None:
        # a generation that the budget cut short says too little
        if self._strategy is not None and len(fitness) == self._strategy.popsize:
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
            K, dimension = self._basis.shape
            scale = self.scale / np.sqrt(K)
            return cma.CMAEvolutionStrategy(np.zeros(dimension), scale, options)
