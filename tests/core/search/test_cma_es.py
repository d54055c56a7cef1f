from __future__ import annotations

import warnings

import numpy as np
import pytest
from bowls import K, bowl, build, initial, run, tell


def state() -> tuple[np.ndarray, int]:
    _, keys, position, *_ = np.random.get_state()
    return np.asarray(keys), int(position)


def test_numpys_global_random_state_is_not_changed() -> None:
    np.random.seed(5)
    keys, position = state()
    run(build("cma"))
    assert np.array_equal(state()[0], keys)
    assert state()[1] == position


def test_numpys_global_random_state_is_not_read() -> None:
    found = []
    for seed in (1, 2):
        np.random.seed(seed)
        found.append(np.concatenate(run(build("cma"))))
    assert np.array_equal(*found)


@pytest.mark.parametrize("population", [2, 3, 10])
def test_no_warning_is_leaked(population: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(build("cma", population=population))


@pytest.mark.parametrize("value", [0.0, np.inf])
def test_a_fitness_that_is_the_same_everywhere_does_no_harm(value: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asked = run(build("cma"), lambda alphas: np.full(len(alphas), value))
    assert np.isfinite(np.concatenate(asked)).all()


def test_warnings_are_filtered_as_before() -> None:
    before = list(warnings.filters)
    run(build("cma"))
    assert list(warnings.filters) == before


def test_two_checkpoints_are_enough() -> None:
    search = type(build("cma"))(
        np.eye(2), scale=0.3, num_evaluations=80, population=6, seed=0
    )
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


def test_the_centre_moves_towards_the_better_half() -> None:
    search = build("cma")
    tell(search, search.ask())
    asked, before = search.ask(), search.mean
    tell(search, asked)
    better = asked[np.argsort(bowl(asked))[:5]].mean(0)
    assert (search.mean - before) @ (better - before) > 0
    assert bowl(search.mean[None])[0] < np.median(bowl(asked))


def test_a_generation_that_the_budget_cut_short_does_not_move_the_centre() -> None:
    search = build("cma", num_evaluations=len(initial()) + 10 + 4 + 1)
    for _ in range(2):
        tell(search, search.ask())
    before = search.mean
    assert len(search.ask()) == 4
    tell(search, search.ask())
    assert np.array_equal(search.mean, before)
    assert search.asks_mean
