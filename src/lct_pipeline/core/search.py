"""Evolutionary search over the coefficients of a combination: ask, tell, stop.

The search proposes coefficients and never evaluates them. LCSC (Liu et al. 2024) gives the problem
and its start from EMA profiles; the operators below are this project's own, because the authors'
are not public.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SearchSettings:
    """Budget and operators; see ``conf/base/parameters_combination.yml`` for the reasons."""

    num_evaluations: int
    population: int
    num_parents: int
    crossover_probability: float
    mutation_probability: float
    mutation_scale: float
    seed: int


class EvolutionarySearch:
    """Minimises a fitness over coefficients alpha with sum 1.

    Generation 0 is the given initial population. Each further one has children of the best, by
    crossover and Gaussian mutation; parents and children compete, the best survive (elitism). The
    last evaluation of the budget is the mean of the survivors: the best of many noisy evaluations
    owes part of its place to luck, their mean does not.
    What a generation draws depends on the seed and its number alone, so a search that continues
    from :meth:`state` ends as an uninterrupted one.

    Args:
        initial: Initial coefficients, ``(I, K)``, each with sum 1.
        settings: Budget and operators.
    """

    def __init__(self, initial: np.ndarray, settings: SearchSettings) -> None:
        self.settings = settings
        self.generation = 0
        self.num_evaluated = 0
        self.alphas = np.asarray(initial, dtype=np.float64)
        self.fitness = np.full(len(initial), np.inf)

    @property
    def stop(self) -> bool:
        """Whether the budget is spent."""
        return self.num_evaluated >= self.settings.num_evaluations

    @property
    def best(self) -> tuple[np.ndarray, float]:
        """Return the best coefficients so far, ``(K,)``, and their fitness."""
        return self.alphas[0], float(self.fitness[0])

    @property
    def mean(self) -> np.ndarray:
        """Return the mean coefficients of the survivors, ``(K,)``, with sum 1."""
        return with_sum_one(self.alphas.mean(0))

    def ask(self) -> np.ndarray:
        """Return the coefficients to evaluate next, ``(P, K)``, within the budget."""
        left = self.settings.num_evaluations - self.num_evaluated
        if left == 1:
            return self.mean[None]
        if self.generation == 0:
            return self.alphas[: left - 1]
        rng = np.random.default_rng([self.settings.seed, self.generation])
        num_children = min(self.settings.population, left - 1)
        return np.stack([self._child(rng) for _ in range(num_children)])

    def tell(self, alphas: np.ndarray, fitness: np.ndarray) -> None:
        """Take the fitness, ``(P,)``, of what :meth:`ask` returned; lower is better."""
        if self.generation == 0:
            candidates, values = alphas, fitness
        else:
            candidates = np.concatenate([self.alphas, alphas])
            values = np.concatenate([self.fitness, fitness])
        order = np.argsort(values, kind="stable")[: self.settings.population]
        self.alphas, self.fitness = candidates[order], values[order]
        self.num_evaluated += len(fitness)
        self.generation += 1

    def _child(self, rng: np.random.Generator) -> np.ndarray:
        parents = self.alphas[: self.settings.num_parents]
        first, second = parents[rng.integers(len(parents), size=2)]
        child = first
        if rng.random() < self.settings.crossover_probability:
            child = crossover(first, second, rng)
        return mutate(
            child,
            rng,
            probability=self.settings.mutation_probability,
            scale=self.settings.mutation_scale,
        )

    def state(self) -> dict[str, np.ndarray]:
        """Return all that a continued search needs."""
        counts = np.array([self.generation, self.num_evaluated])
        return {"alphas": self.alphas, "fitness": self.fitness, "counts": counts}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Continue from :meth:`state`."""
        self.alphas, self.fitness = state["alphas"], state["fitness"]
        self.generation, self.num_evaluated = (int(count) for count in state["counts"])


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
    alpha: np.ndarray, rng: np.random.Generator, *, probability: float, scale: float
) -> np.ndarray:
    """Return coefficients with Gaussian noise added, with sum 1.

    Half of the children change every coefficient, half each one with ``probability``. The standard
    deviation is ``scale / sqrt(K)`` times a log-normal factor, so steps of several sizes are tried.
    """
    step = scale / np.sqrt(len(alpha)) * np.exp(rng.normal())
    everywhere = rng.random() < 0.5
    chosen = everywhere | (rng.random(len(alpha)) < probability)
    return with_sum_one(alpha + step * chosen * rng.normal(size=len(alpha)))


def with_sum_one(alpha: np.ndarray) -> np.ndarray:
    """Spread what is missing to sum 1 over all coefficients alike.

    Dividing by the sum instead would be ill-conditioned where the sum is near 0, which negative
    coefficients make possible.
    """
    return alpha + (1 - alpha.sum()) / len(alpha)
