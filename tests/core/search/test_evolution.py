from __future__ import annotations

import numpy as np
import pytest
from bowls import K, bowl, build, initial, target, tell

from lct_pipeline.core.search_methods import crossover, mutate


@pytest.mark.parametrize("population", [3, 8])
def test_the_best_of_parents_and_children_survive_and_the_mean_is_theirs(
    population: int,
) -> None:
    search, everyone = build("evolution", population=population), np.empty((0, K))
    while not search.asks_mean:
        everyone = np.concatenate([everyone, search.ask()])
        tell(search, search.ask())
        best = everyone[np.argsort(bowl(everyone), kind="stable")[:population]]
        assert np.array_equal(search.fitness, bowl(best))
        assert np.array_equal(search.survivors, best)
        np.testing.assert_allclose(search.mean, best.mean(0), atol=1e-14)
    before = search.survivors
    search.tell(search.ask(), np.array([-1.0]))
    assert search.survivors is before  # the mean itself does not join them


def test_without_crossover_and_mutation_children_are_copies_of_the_better_half() -> (
    None
):
    operators = {"crossover_probability": 0.0, "mutation_scale": 0.0}
    search = build("evolution", population=4, num_evaluations=1000, **operators)
    tell(search, search.ask())
    parents = initial()[np.argsort(bowl(initial()))[:2]]
    found = set()
    for _ in range(10):
        distances = np.abs(search.ask()[:, None] - parents[None]).max(2)
        np.testing.assert_allclose(distances.min(1), 0, atol=1e-12)
        found |= set(distances.argmin(1))
        tell(search, search.ask(), lambda alphas: np.full(len(alphas), np.inf))
    assert found == {0, 1}


def test_crossover_keeps_the_sum_and_stays_near_its_parents() -> None:
    first, second = initial()[0], initial()[-1]
    length, middle = np.linalg.norm(second - first), (first + second) / 2
    for seed in range(200):
        child = crossover(first, second, np.random.default_rng(seed))
        assert child.sum() == pytest.approx(1, abs=1e-12)
        assert np.linalg.norm(child - middle) <= 0.75 * length + 1e-12
        same = crossover(target(), target(), np.random.default_rng(seed))
        np.testing.assert_allclose(same, target(), atol=1e-12)


def mutations(scale: float, probability: float = 0.25) -> np.ndarray:
    rngs = [np.random.default_rng(seed) for seed in range(500)]
    return np.stack([mutate(target(), r, probability, scale) for r in rngs]) - target()


def test_mutations_have_sum_and_mean_zero_and_the_size_of_their_scale() -> None:
    steps = mutations(0.1)
    np.testing.assert_allclose(steps.sum(1), 0, atol=1e-12)
    np.testing.assert_allclose(mutations(0.2), 2 * steps, atol=1e-12)
    assert (np.abs(steps.mean(0)) < 5 * steps.std(0) / 500**0.5).all()


def test_half_of_the_mutations_change_few_coefficients() -> None:
    steps = mutations(0.1, probability=1 / K)
    # what is not chosen changes by the same small amount, which mends the sum
    unchosen = [np.isclose(step, np.median(step)).sum() for step in steps]
    share = np.mean([number > K / 2 for number in unchosen])
    assert share == pytest.approx(0.5, abs=0.1)
