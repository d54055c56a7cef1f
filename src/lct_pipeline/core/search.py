"""Search over the coefficients of a combination (LCSC), behind ask / tell / stop.

A search proposes coefficients and never evaluates them: it sees no weight and no image. Here is
what all have in common: the start, the budget, and the order of asking and telling.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import numpy as np
from scipy.linalg import helmert


@dataclass(eq=False)
class Search(ABC):
    """Minimises a fitness over coefficients alpha, ``(K,)``, with sum 1.

    Generation 0 is the given initial population, the same for all searches. The last evaluation of
    the budget is the search mean, the middle of the region that was found: the best of many noisy
    evaluations owes part of its place to luck, the mean does not.

    What is proposed depends on the seed and on what was told, on nothing else: a new search that is
    told the same again goes on as if the old one had never stopped. Nothing else has to be saved.

    Attributes:
        initial: Initial coefficients, ``(I, K)``, each with sum 1.
        num_evaluations: Budget, in evaluations at full cost.
        population: Candidates of a generation.
        seed: Seed of all that is drawn.
        cost: What one candidate of a generation costs, in evaluations; 1 unless candidates are
            evaluated on fewer images, or with gradients.
        start: Best of the initial coefficients, ``(K,)``.
        generation: Number of the generation that is asked for.
        spent: Budget that is spent.

    Raises:
        ValueError: The budget is less than the start and the mean.
    """

    initial: np.ndarray
    _: KW_ONLY
    num_evaluations: int
    population: int
    seed: int
    cost: float = 1.0
    needs_gradients: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.num_evaluations < len(self.initial) + 1:
            raise ValueError(
                f"a budget of {self.num_evaluations} evaluations does not hold the "
                f"{len(self.initial)} of the start and that of the search mean"
            )
        self.start = self.initial[0]
        self.generation, self.spent, self.stop = 0, 0.0, False
        self._asked: np.ndarray | None = None

    @property
    def asks_mean(self) -> bool:
        """Whether the next generation is the search mean alone, the last one."""
        return self.generation > 0 and self._num_affordable() < 1

    @property
    @abstractmethod
    def mean(self) -> np.ndarray:
        """Return the coefficients that the search recommends, ``(K,)``, with sum 1."""

    def ask(self) -> np.ndarray:
        """Return the coefficients to evaluate next, ``(P, K)``, within the budget.

        Until they are told they are the same.
        """
        if self._asked is None:
            self._asked = self._next()
        return self._asked

    def _next(self) -> np.ndarray:
        if self.generation == 0:
            return self.initial
        if self.asks_mean:
            return self.mean[None]
        rng = np.random.default_rng([self.seed, self.generation])
        return self._propose(rng, min(self.population, self._num_affordable()))

    def tell(
        self,
        alphas: np.ndarray,
        fitness: np.ndarray,
        gradients: np.ndarray | None = None,
    ) -> None:
        """Take the fitness, ``(P,)``, of what :meth:`ask` returned; lower is better.

        Args:
            alphas: What was asked, ``(P, K)``, or would have been.
            fitness: Their fitness; NaN is the worst there is.
            gradients: Derivatives of the fitness by alpha, ``(P, K)``, where they are needed.
        """
        self.ask()  # a search that is told without asking draws as one that asked
        self._asked = None
        fitness = np.where(np.isnan(fitness), np.inf, fitness)
        if self.generation == 0:
            self.start = alphas[int(np.argmin(fitness))]
        self.stop, spent = self.asks_mean, self.spent_after(len(fitness))
        if not self.stop:
            self._learn(alphas, fitness, gradients)
        self.spent = spent
        self.generation += 1

    def spent_after(self, num: int) -> float:
        """Return what is spent when ``num`` candidates of this generation are told."""
        in_full = self.generation == 0 or self.asks_mean
        return self.spent + num * (1.0 if in_full else self.cost)

    def _num_affordable(self) -> int:
        """Return how many candidates the budget still holds beside the search mean."""
        return int((self.num_evaluations - 1 - self.spent) / self.cost + 1e-9)

    @abstractmethod
    def _propose(self, rng: np.random.Generator, num: int) -> np.ndarray:
        """Return ``num`` candidates at most, ``(P, K)``."""

    @abstractmethod
    def _learn(
        self, alphas: np.ndarray, fitness: np.ndarray, gradients: np.ndarray | None
    ) -> None:
        """Take a generation; generation 0 is the start, without gradients."""


def with_sum_one(alpha: np.ndarray) -> np.ndarray:
    """Spread what is missing to sum 1 over all coefficients alike.

    Dividing by the sum instead would be ill-conditioned where the sum is near 0, which negative
    coefficients make possible.
    """
    return alpha + (1 - alpha.sum()) / len(alpha)


def sum_zero_basis(num: int) -> np.ndarray:
    """Return orthonormal directions of sum 0 as columns, ``(K, K - 1)``."""
    return helmert(num).T
