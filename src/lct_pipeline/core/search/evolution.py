"""Evolutionary search over coefficients, the method of LCSC (Liu et al. 2024, algorithm 1)."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

import numpy as np

from lct_pipeline.core.search.base import Search, with_sum_one


@dataclass(eq=False)
class EvolutionarySearch(Search):
    """Children of the best, by crossover and Gaussian mutation; the best of all survive (elitism).

    Its search mean is the mean of the survivors; the better half of them breed. The authors of LCSC
    published no operators; these found most in searches of the built-in digits.

    Attributes:
        crossover_probability: Else a child starts as a copy of one parent.
        mutation_probability: Of each coefficient, in the half of the children that do not mutate
            in all.
        mutation_scale: Over the square root of K.
        survivors: The best of all, ``(P, K)``, the best first.
        fitness: Their fitness, ``(P,)``.
    """

    _: KW_ONLY
    crossover_probability: float = 0.5
    mutation_probability: float = 0.25
    mutation_scale: float = 0.6

    def __post_init__(self) -> None:
        super().__post_init__()
        self.survivors = np.empty((0, self.initial.shape[1]))
        self.fitness = np.empty(0)

    @property
    def mean(self) -> np.ndarray:
        """Return the mean of the survivors."""
        return with_sum_one(self.survivors.mean(0))

    def _propose(self, rng: np.random.Generator, num: int) -> np.ndarray:
        return np.stack([self._child(rng) for _ in range(num)])

    def _learn(
        self, alphas: np.ndarray, fitness: np.ndarray, gradients: np.ndarray | None
    ) -> None:
        candidates = np.concatenate([self.survivors, alphas])
        values = np.concatenate([self.fitness, fitness])
        order = np.argsort(values, kind="stable")[: self.population]
        self.survivors, self.fitness = candidates[order], values[order]

    def _child(self, rng: np.random.Generator) -> np.ndarray:
        parents = self.survivors[: self.population // 2]
        first, second = parents[rng.integers(len(parents), size=2)]
        crossed = rng.random() < self.crossover_probability
        child = crossover(first, second, rng) if crossed else first
        return mutate(child, rng, self.mutation_probability, self.mutation_scale)


def crossover(
    first: np.ndarray, second: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return a child of two parents, with sum 1.

    Half of the children take each coefficient from one parent or the other; half lie on the line
    through both, up to a quarter of their distance beyond either.
    """
    if rng.random() < 0.5:
        return with_sum_one(np.where(rng.random(len(first)) < 0.5, first, second))
    place = rng.uniform(-0.25, 1.25)
    return place * first + (1 - place) * second


def mutate(
    alpha: np.ndarray, rng: np.random.Generator, probability: float, scale: float
) -> np.ndarray:
    """Return coefficients with Gaussian noise added, with sum 1.

    Half of the children change every coefficient, half each one with ``probability``. The standard
    deviation is ``scale / sqrt(K)`` times a log-normal factor, so steps of several sizes are tried.
    """
    step = scale / np.sqrt(len(alpha)) * np.exp(rng.normal())
    everywhere = rng.random() < 0.5
    chosen = everywhere | (rng.random(len(alpha)) < probability)
    return with_sum_one(alpha + step * chosen * rng.normal(size=len(alpha)))
