from __future__ import annotations

import numpy as np
import pytest
from bowls import K, bowl, build, initial, run, tell


def best_of_start() -> np.ndarray:
    return initial()[bowl(initial()).argmin()]


def test_proposals_do_not_depend_on_what_was_found_after_the_start() -> None:
    first, second = build("random"), build("random")
    for search, factor in ((first, 1), (second, -1)):
        tell(search, search.ask())
        tell(search, search.ask(), lambda alphas, f=factor: f * bowl(alphas))
    assert np.array_equal(first.ask(), second.ask())
    assert not np.array_equal(first.mean, second.mean)


def test_the_centre_is_the_best_of_all() -> None:
    search = build("random")
    seen = np.empty((0, K))
    while not search.asks_mean:
        seen = np.concatenate([seen, search.ask()])
        tell(search, search.ask())
        assert np.array_equal(search.mean, seen[bowl(seen).argmin()])


def test_proposals_scatter_around_the_best_of_the_start() -> None:
    proposed = run(build("random", num_evaluations=4_007, population=4_000))[1]
    scatter = proposed - best_of_start()
    error = scatter.std(0) / len(scatter) ** 0.5
    assert (np.abs(scatter.mean(0)) < 4.5 * error).all()


def test_the_middle_step_is_the_scale_over_the_root_of_the_number() -> None:
    proposed = run(build("random", num_evaluations=4_007, population=4_000))[1]
    # a perturbation of K - 1 normal values has the length sqrt(K - 1), about
    lengths = np.linalg.norm(proposed - best_of_start(), axis=1) / (K - 1) ** 0.5
    assert np.median(lengths) == pytest.approx(0.6 / K**0.5, rel=0.05)


def test_steps_are_of_several_sizes() -> None:
    proposed = run(build("random", num_evaluations=4_007, population=4_000))[1]
    logs = np.log(np.linalg.norm(proposed - best_of_start(), axis=1))
    assert logs.std() == pytest.approx(1, rel=0.05)  # of the log-normal factor
