from __future__ import annotations

import numpy as np
import pytest
from bowls import K, bowl, build, initial, run, target, tell

from lct_pipeline.core.search.evolution import crossover, mutate


def test_the_best_never_gets_worse_and_is_the_best_of_all_evaluated() -> None:
    search = build("evolution")
    best, seen = [], np.empty(0)
    while not search.asks_mean:
        seen = np.concatenate([seen, bowl(search.ask())])
        tell(search, search.ask())
        best.append(search.fitness[0])
        assert best[-1] == seen.min()
    assert best == sorted(best, reverse=True)


def test_the_best_of_parents_and_children_survive() -> None:
    search = build("evolution", population=8)
    tell(search, search.ask())
    for _ in range(3):
        everyone = np.concatenate([search.survivors, search.ask()])
        tell(search, search.ask())
        best = everyone[np.argsort(bowl(everyone), kind="stable")[:8]]
        assert np.array_equal(search.survivors, best)
        assert np.array_equal(search.fitness, bowl(best))


def test_of_a_start_larger_than_the_population_the_best_survive() -> None:
    search = build("evolution", population=3)
    tell(search, search.ask())
    assert np.array_equal(search.fitness, np.sort(bowl(initial()))[:3])


def test_the_centre_is_the_mean_of_the_survivors() -> None:
    search = build("evolution", population=8)
    run(search)
    np.testing.assert_allclose(search.mean, search.survivors.mean(0), atol=1e-14)


def test_the_centre_itself_does_not_join_the_survivors() -> None:
    search = build("evolution")
    while not search.asks_mean:
        tell(search, search.ask())
    before = search.survivors
    search.tell(search.ask(), np.array([-1.0]))
    assert search.survivors is before


def test_without_crossover_and_mutation_children_are_copies_of_the_best_parents() -> (
    None
):
    search = build(
        "evolution",
        crossover_probability=0.0,
        mutation_scale=0.0,
        num_parents=2,
        population=30,
    )
    tell(search, search.ask())
    parents = initial()[np.argsort(bowl(initial()))[:2]]
    distances = np.abs(search.ask()[:, None] - parents[None]).max(2)
    np.testing.assert_allclose(distances.min(1), 0, atol=1e-12)
    assert set(distances.argmin(1)) == {0, 1}


def test_crossover_keeps_the_sum() -> None:
    first, second = initial()[0], initial()[-1]
    for seed in range(50):
        child = crossover(first, second, np.random.default_rng(seed))
        assert child.sum() == pytest.approx(1, abs=1e-12)


def test_crossover_stays_near_its_parents() -> None:
    first, second = initial()[0], initial()[-1]
    length, middle = np.linalg.norm(second - first), (first + second) / 2
    for seed in range(200):
        child = crossover(first, second, np.random.default_rng(seed))
        assert np.linalg.norm(child - middle) <= 0.75 * length + 1e-12


def test_crossover_of_equal_parents_is_that_parent() -> None:
    for seed in range(20):
        child = crossover(target(), target(), np.random.default_rng(seed))
        np.testing.assert_allclose(child, target(), atol=1e-12)


def mutations(scale: float, probability: float = 0.25) -> np.ndarray:
    rngs = [np.random.default_rng(seed) for seed in range(500)]
    changed = [mutate(target(), r, probability=probability, scale=scale) for r in rngs]
    return np.stack(changed) - target()


def test_mutation_keeps_the_sum() -> None:
    np.testing.assert_allclose(mutations(0.1).sum(1), 0, atol=1e-12)


def test_mutation_is_proportional_to_its_scale() -> None:
    np.testing.assert_allclose(mutations(0.2), 2 * mutations(0.1), atol=1e-12)


def test_mutation_is_centred() -> None:
    steps = mutations(0.1)
    assert (np.abs(steps.mean(0)) < 5 * steps.std(0) / 500**0.5).all()


def test_half_of_the_mutations_change_few_coefficients() -> None:
    steps = mutations(0.1, probability=1 / K)
    # what is not chosen changes by the same small amount, which mends the sum
    unchosen = [np.isclose(step, np.median(step)).sum() for step in steps]
    share = np.mean([number > K / 2 for number in unchosen])
    assert share == pytest.approx(0.5, abs=0.1)
