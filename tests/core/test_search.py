from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from lct_pipeline.core.ema_profiles import Profile, posthoc_coefficients, raw_basis
from lct_pipeline.core.search import (
    EvolutionarySearch,
    SearchSettings,
    crossover,
    mutate,
    with_sum_one,
)

K = 12
RATES = (0.5, 0.8, 0.9, 0.95, 0.99, 0.999)
Fitness = Callable[[np.ndarray], np.ndarray]


def settings(**changes: float) -> SearchSettings:
    values = {
        "num_evaluations": 300,
        "population": 20,
        "num_parents": 10,
        "crossover_probability": 0.5,
        "mutation_probability": 0.25,
        "mutation_scale": 0.6,
        "seed": 0,
    }
    return SearchSettings(**(values | changes))  # type: ignore[arg-type]


def initial() -> np.ndarray:
    basis = raw_basis(range(1, K + 1))
    return np.stack([posthoc_coefficients(basis, Profile.rate(K, r)) for r in RATES])


def target() -> np.ndarray:
    return with_sum_one(np.random.default_rng(7).normal(0, 0.4, size=K))


def bowl(alphas: np.ndarray) -> np.ndarray:
    return ((alphas - target()) ** 2).sum(1)


def run(search: EvolutionarySearch, fitness: Fitness = bowl) -> list[np.ndarray]:
    asked = []
    while not search.stop:
        asked.append(search.ask())
        search.tell(asked[-1], fitness(asked[-1]))
    return asked


@pytest.mark.parametrize("budget", [1, 4, len(RATES), 7, 53, 300])
def test_the_budget_is_spent_exactly(budget: int) -> None:
    search = EvolutionarySearch(initial(), settings(num_evaluations=budget))
    asked = run(search)
    assert sum(len(alphas) for alphas in asked) == budget == search.num_evaluated
    assert all(0 < len(alphas) <= 20 for alphas in asked)


def test_every_proposal_sums_to_one_and_negatives_occur() -> None:
    asked = np.concatenate(run(EvolutionarySearch(initial(), settings())))
    np.testing.assert_allclose(asked.sum(1), 1, atol=1e-12)
    assert (asked < 0).any()
    assert np.isfinite(asked).all()


def test_the_first_generation_is_the_initial_population() -> None:
    search = EvolutionarySearch(initial(), settings())
    assert np.array_equal(search.ask(), initial())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_quadratic_bowl_is_minimised_well_below_its_initial_best(seed: int) -> None:
    search = EvolutionarySearch(initial(), settings(num_evaluations=600, seed=seed))
    run(search)
    alpha, fitness = search.best
    assert fitness < 0.1 * bowl(initial()).min()
    assert fitness == bowl(alpha[None])[0]


def test_the_best_never_gets_worse_and_is_the_best_of_all_evaluated() -> None:
    search = EvolutionarySearch(initial(), settings())
    best, seen = [], []
    while not search.stop:
        alphas = search.ask()
        seen.append(bowl(alphas))
        search.tell(alphas, seen[-1])
        best.append(search.best[1])
        assert best[-1] == np.concatenate(seen).min()
        assert len(search.alphas) <= 20
    assert best == sorted(best, reverse=True)


def test_the_best_of_parents_and_children_survive() -> None:
    search = EvolutionarySearch(initial(), settings(population=8))
    search.tell(search.ask(), bowl(initial()))
    for _ in range(3):
        everyone = np.concatenate([search.alphas, search.ask()])
        search.tell(everyone[-8:], bowl(everyone[-8:]))
        best = everyone[np.argsort(bowl(everyone), kind="stable")[:8]]
        assert np.array_equal(search.alphas, best)
        assert np.array_equal(search.fitness, bowl(best))


def test_a_candidate_whose_fitness_is_not_a_number_is_never_the_best() -> None:
    def faulty(alphas: np.ndarray) -> np.ndarray:
        values = bowl(alphas)
        values[::2] = np.nan
        return values

    search = EvolutionarySearch(initial(), settings())
    run(search, faulty)
    assert np.isfinite(search.best[1])
    assert search.best[1] <= bowl(initial())[1::2].min()


@pytest.mark.parametrize("generations", [0, 1, 2, 7])
def test_a_continued_search_ends_as_an_uninterrupted_one(generations: int) -> None:
    whole = EvolutionarySearch(initial(), settings())
    run(whole)
    first = EvolutionarySearch(initial(), settings())
    for _ in range(generations):
        alphas = first.ask()
        first.tell(alphas, bowl(alphas))
    saved = {name: array.copy() for name, array in first.state().items()}
    np.random.seed(generations)
    second = EvolutionarySearch(initial(), settings())
    second.load_state(saved)
    run(second)
    for name, array in whole.state().items():
        assert np.array_equal(second.state()[name], array)


def test_asking_twice_proposes_the_same_and_seeds_propose_different() -> None:
    searches = [EvolutionarySearch(initial(), settings(seed=s)) for s in (0, 0, 1)]
    for search in searches:
        search.tell(search.ask(), bowl(initial()))
    first, second, other = (search.ask() for search in searches)
    assert np.array_equal(first, second)
    assert np.array_equal(first, searches[0].ask())
    assert not np.allclose(first, other)


def test_without_crossover_and_mutation_children_are_copies_of_the_best_parents() -> (
    None
):
    still = settings(
        crossover_probability=0.0, mutation_scale=0.0, num_parents=2, population=30
    )
    search = EvolutionarySearch(initial(), still)
    search.tell(search.ask(), bowl(initial()))
    parents = initial()[np.argsort(bowl(initial()))[:2]]
    children = search.ask()
    distances = np.abs(children[:, None] - parents[None]).max(2)
    np.testing.assert_allclose(distances.min(1), 0, atol=1e-12)
    assert set(distances.argmin(1)) == {0, 1}


def test_crossover_keeps_the_sum_and_stays_near_its_parents() -> None:
    first, second = initial()[0], initial()[-1]
    length = np.linalg.norm(second - first)
    for seed in range(200):
        child = crossover(first, second, np.random.default_rng(seed))
        assert child.sum() == pytest.approx(1, abs=1e-12)
        middle = (first + second) / 2
        assert np.linalg.norm(child - middle) <= 0.75 * length + 1e-12


def test_crossover_of_equal_parents_is_that_parent() -> None:
    alpha = target()
    for seed in range(20):
        child = crossover(alpha, alpha, np.random.default_rng(seed))
        np.testing.assert_allclose(child, alpha, atol=1e-12)


def test_mutation_is_centred_and_its_size_follows_the_scale() -> None:
    alpha = target()
    steps = {}
    for scale in (0.1, 0.2):
        rngs = [np.random.default_rng(seed) for seed in range(500)]
        changed = [mutate(alpha, rng, probability=0.25, scale=scale) for rng in rngs]
        np.testing.assert_allclose(np.sum(changed, axis=1), 1, atol=1e-12)
        steps[scale] = np.stack(changed) - alpha
    np.testing.assert_allclose(steps[0.2], 2 * steps[0.1], atol=1e-12)
    spread = steps[0.1].std(0)
    assert (np.abs(steps[0.1].mean(0)) < 5 * spread / 500**0.5).all()


def test_the_sum_is_mended_by_the_smallest_possible_change() -> None:
    alpha = np.array([1.0, -1.0, 0.5, 0.0])
    mended = with_sum_one(alpha)
    ones = np.ones(4)
    projection = alpha - ones * (alpha @ ones - 1) / (ones @ ones)
    np.testing.assert_allclose(mended, projection)
    assert mended.sum() == pytest.approx(1)
    balanced = with_sum_one(np.array([1.0, -1.0]))  # a sum of 0 does no harm
    np.testing.assert_allclose(balanced, [1.5, -0.5])
