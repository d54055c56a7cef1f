"""Evolution, CMA-ES, random and gradient search over the coefficients of a combination.

LCSC (Liu et al. 2024) gives the problem, an evolutionary search (algorithm 1) and its start from
EMA profiles; all operators and settings here are this project's own, because the authors' are not
public.
"""

from __future__ import annotations

import warnings
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

import numpy as np

from lct_pipeline.core.search import Search, sum_zero_basis, with_sum_one

if TYPE_CHECKING:
    from cma import CMAEvolutionStrategy


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
        if (known := np.isfinite(values)).any():  # no other breeds, or is in the mean
            candidates, values = candidates[known], values[known]
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


BETAS, EPSILON = (0.9, 0.99), 1e-12


@dataclass(eq=False)
class GradientSearch(Search):
    """Adam (Kingma & Ba 2015) on z, alpha = alpha_0 + B z, with B directions of sum 0.

    The step size falls linearly to 0. A generation is one step of one candidate; one that cannot
    be measured is halved, and weighs nothing in the averages. Steps may be
    evaluated on new noise each: then no set of noise can be overfitted, and the fitness of a step
    is a sample. The search mean is the mean of the last half of the path (Polyak averaging).

    Attributes:
        step_size: First step size in z, over the square root of K. ``population`` is not used.
    """

    needs_gradients = True
    _: KW_ONLY
    step_size: float

    def __post_init__(self) -> None:
        super().__post_init__()
        K = self.initial.shape[1]
        self._basis = sum_zero_basis(K)
        self._path = [np.zeros(K - 1)]
        self._moments = np.zeros((2, K - 1))
        left = self.num_evaluations - 1 - len(self.initial)
        self._num_steps = max(1, int(left / self.cost + 1e-9))

    @property
    def mean(self) -> np.ndarray:
        """Return the mean of the last half of the path."""
        last_half = self._path[len(self._path) // 2 :]
        return self.start + self._basis @ np.mean(last_half, axis=0)

    def _propose(self, rng: np.random.Generator, num: int) -> np.ndarray:
        return (self.start + self._basis @ self._path[-1])[None]

    def _learn(
        self, alphas: np.ndarray, fitness: np.ndarray, gradients: np.ndarray | None
    ) -> None:
        if self.generation == 0:
            return
        assert gradients is not None
        if np.isfinite([*fitness, *gradients[0]]).all():
            self._path.append(self._path[-1] - self._step(gradients[0] @ self._basis))
        elif len(self._path) > 1:  # halfway back to where it could be measured
            self._path[-1] = (self._path[-2] + self._path[-1]) / 2

    def _step(self, gradient: np.ndarray) -> np.ndarray:
        """Return Adam's step for dF/dz, ``(K - 1,)``."""
        number = len(self._path)
        powers = np.stack([gradient, gradient**2])
        decay = np.array(BETAS)[:, None]
        self._moments = decay * self._moments + (1 - decay) * powers
        mean, square = self._moments / (1 - decay**number)
        size = (
            self.step_size
            / np.sqrt(len(self.start))
            * (1 - (number - 1) / self._num_steps)
        )
        return size * mean / (np.sqrt(square) + EPSILON)


SEARCHES: dict[str, type[Search]] = {
    "evolution": EvolutionarySearch,
    "cma": CMASearch,
    "random": RandomSearch,
    "gradient": GradientSearch,
}
