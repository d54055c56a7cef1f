from __future__ import annotations

import warnings

import numpy as np
import pytest
from bowls import K, bowl, build, initial, run, tell


def test_numpys_global_random_state_is_neither_read_nor_changed() -> None:
    found = []
    for seed in (1, 2):
        np.random.seed(seed)
        before = np.random.get_state()[1:3]
        found.append(np.concatenate(run(build("cma"))))
        for one, other in zip(before, np.random.get_state()[1:3], strict=True):
            np.testing.assert_array_equal(one, other)
    assert np.array_equal(*found)


@pytest.mark.parametrize("population", [2, 3, 10])
@pytest.mark.parametrize("value", [None, 0.0, np.inf])
def test_no_warning_is_leaked_and_a_fitness_that_is_the_same_everywhere_does_no_harm(
    population: int, value: float | None
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)
        fitness = bowl if value is None else lambda alphas: np.full(len(alphas), value)
        asked = run(build("cma", population=population), fitness)
        assert list(warnings.filters) == before
    assert np.isfinite(np.concatenate(asked)).all()


def test_two_checkpoints_are_enough() -> None:
    search = type(build("cma"))(np.eye(2), num_evaluations=80, population=6, seed=0)
    run(search, lambda alphas: ((alphas - [0.7, 0.3]) ** 2).sum(1))
    np.testing.assert_allclose(search.mean, [0.7, 0.3], atol=1e-2)


def test_the_distribution_starts_around_the_best_of_the_start_alike_for_all() -> None:
    search = build("cma", num_evaluations=3_007, population=3_000)
    tell(search, search.ask())
    best = initial()[bowl(initial()).argmin()]
    assert np.array_equal(search.mean, best)
    scatter = search.ask() - best
    found = scatter.T @ scatter / len(scatter)
    # scale^2 / K in every direction of sum 0
    expected = 0.3**2 / K * (np.eye(K) - 1 / K)
    np.testing.assert_allclose(found, expected, atol=0.15 * 0.3**2 / K)


def test_the_mean_moves_towards_the_better_half_of_a_whole_generation() -> None:
    search = build("cma", num_evaluations=len(initial()) + 10 + 4 + 1)
    tell(search, search.ask())
    asked, before = search.ask(), search.mean
    tell(search, asked)
    moved = search.mean
    better = asked[np.argsort(bowl(asked))[:5]].mean(0)
    assert (moved - before) @ (better - before) > 0
    assert bowl(moved[None])[0] < np.median(bowl(asked))
    assert len(search.ask()) == 4  # which the budget cut short
    tell(search, search.ask())
    assert np.array_equal(search.mean, moved)
    assert search.asks_mean
