from __future__ import annotations

import numpy as np
import pytest
from bowls import K, bowl, build, initial, run, tell


def test_proposals_learn_nothing_and_the_best_of_all_stands_for_the_mean() -> None:
    first, second = build("random"), build("random")
    for search, factor in ((first, 1), (second, -1)):
        tell(search, search.ask())
        tell(search, search.ask(), lambda alphas, f=factor: f * bowl(alphas))
    assert np.array_equal(first.ask(), second.ask())
    assert not np.array_equal(first.mean, second.mean)
    search, seen = build("random"), np.empty((0, K))
    while not search.asks_mean:
        seen = np.concatenate([seen, search.ask()])
        tell(search, search.ask())
        assert np.array_equal(search.mean, seen[bowl(seen).argmin()])


def test_proposals_scatter_around_the_best_of_the_start_in_several_sizes() -> None:
    proposed = run(build("random", num_evaluations=4_007, population=4_000))[1]
    scatter = proposed - initial()[bowl(initial()).argmin()]
    error = scatter.std(0) / len(scatter) ** 0.5
    assert (np.abs(scatter.mean(0)) < 4.5 * error).all()
    # a perturbation of K - 1 normal values has the length sqrt(K - 1), about
    lengths = np.linalg.norm(scatter, axis=1) / (K - 1) ** 0.5
    assert np.median(lengths) == pytest.approx(0.6 / K**0.5, rel=0.05)
    assert np.log(lengths).std() == pytest.approx(1, rel=0.05)  # the log-normal factor
