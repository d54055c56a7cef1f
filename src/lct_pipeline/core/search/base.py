"""What all searches share: the start, the budget, and the order of asking and telling."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from scipy.linalg import helmert


class Search(ABC):
    """Minimises a fitness over coefficients alpha, ``(K,)``, with sum 1.

    Generation 0 is the given initial population, the same for all searches. The last evaluation of
    the budget is the search mean, the middle of the region that was found: the best of many noisy
    evaluations owes part of its place to luck, the mean does not.

    What is proposed depends on the seed and on what was told, on nothing else: a new search that is
    told the same again goes on as if the old one had never stopped. Nothing else has to be saved.

    Args:
        initial: Initial coefficients, ``(I, K)``, each with sum 1.
        num_evaluations: Budget, in evaluations at full cost.
        population: Candidates of a generation.
        seed: Seed of all that is drawn.
        cost: What one candidate of a generation costs, in evaluations; 1 unless candidates are
            evaluated on fewer images, or with gradients.

    Raises:
        ValueError: The budget is less than the start and the mean.
    """

    needs_gradients = False

    def __init__(
        self,
        initial: np.ndarray,
        *,
        num_evaluations: int,
        population: int,
        seed: int,
        cost: float = 1.0,
    ) -> None:
        self.initial = np.asarray(initial, dtype=np.float64)
        if num_evaluations < len(initial) + 1:
            raise ValueError(
                f"a budget of {num_evaluations} evaluations does not hold the {len(initial)} of "
                "the start and that of the search mean"
            )
        self.num_evaluations, self.population = num_evaluations, population
        self.seed, self.cost = seed, cost
        self.generation = 0
        self.spent = 0.0
        self._asked: np.ndarray | None = None
        self._mean_told = False

    @property
    def stop(self) -> bool:
        """Whether the budget is spent."""
        return self._mean_told

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
        spent = self.spent_after(len(fitness))
        if self.asks_mean:
            self._mean_told = True
        else:
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
