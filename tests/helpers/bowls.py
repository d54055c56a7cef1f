"""What the tests of searches share: a quadratic bowl over the coefficients with sum 1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lct_pipeline.core.ema import Profile, posthoc_coefficients, raw_basis
from lct_pipeline.core.search import Search, with_sum_one
from lct_pipeline.core.search_methods import SEARCHES

K = 12
RATES = (0.5, 0.8, 0.9, 0.95, 0.99, 0.999)
METHODS: dict[str, dict[str, float]] = {
    "evolution": {},
    "cma": {},
    "random": {},
    "gradient": {"step_size": 0.3, "cost": 4.0},
}

Fitness = Callable[[np.ndarray], np.ndarray]


def build(method: str, **changes: Any) -> Any:
    """Return a search at its start."""
    shared = {"num_evaluations": 200, "population": 10, "seed": 0}
    return SEARCHES[method](initial(), **{**shared, **METHODS[method], **changes})


def initial() -> np.ndarray:
    basis = raw_basis(range(1, K + 1))
    return np.stack([posthoc_coefficients(basis, Profile.rate(K, r)) for r in RATES])


def target() -> np.ndarray:
    return with_sum_one(np.random.default_rng(7).normal(0, 0.4, size=K))


def bowl(alphas: np.ndarray) -> np.ndarray:
    return ((alphas - target()) ** 2).sum(1)


def slope(alphas: np.ndarray) -> np.ndarray:
    return 2 * (alphas - target())


def tell(search: Search, alphas: np.ndarray, fitness: Fitness = bowl) -> None:
    gradients = slope(alphas) if search.needs_gradients else None
    search.tell(alphas, fitness(alphas), gradients)


def run(search: Search, fitness: Fitness = bowl) -> list[np.ndarray]:
    """Search to the end and return what was asked."""
    asked = []
    while not search.stop:
        asked.append(search.ask())
        tell(search, asked[-1], fitness)
    return asked
