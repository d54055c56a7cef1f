"""What holds for every search."""

from __future__ import annotations

import numpy as np
import pytest
from bowls import METHODS, K, bowl, build, initial, run, tell

from lct_pipeline.core.search import sum_zero_basis, with_sum_one

START = len(initial())


every_method = pytest.mark.parametrize("method", METHODS)


every_drawing_method = pytest.mark.parametrize("method", ["evolution", "cma", "random"])


@every_method
def test_a_search_asks_for_the_start_then_generations_then_its_mean(
    method: str,
) -> None:
    search, asked = build(method, num_evaluations=90), []
    while not search.asks_mean:
        asked.append(search.ask())
        assert search.ask() is asked[-1]  # the same until they are told
        tell(search, asked[-1])
        assert not search.stop
    assert np.array_equal(asked[0], initial())
    assert all(1 <= len(alphas) <= 10 for alphas in asked[1:])
    proposed = np.concatenate(asked)
    np.testing.assert_allclose(proposed.sum(1), 1, atol=1e-12)
    assert (proposed < 0).any()
    mean = search.mean
    assert np.array_equal(search.ask(), mean[None])
    tell(search, search.ask())
    assert search.stop
    assert np.array_equal(search.mean, mean)


@every_method
@pytest.mark.parametrize("budget", [START + 1, START + 2, 53, 200])
@pytest.mark.parametrize("cost", [0.3, 0.4375, 1, 4])
def test_the_budget_is_spent_as_far_as_it_holds_whole_candidates(
    method: str, budget: int, cost: float
) -> None:
    search, num = build(method, num_evaluations=budget, cost=cost), 0
    while not search.stop:
        alphas = search.ask()
        num += len(alphas)
        expected = search.spent_after(len(alphas))
        tell(search, alphas)
        assert search.spent == expected
    assert budget - cost < search.spent <= budget + 1e-9
    assert num == START + int((budget - 1 - START) / cost + 1e-3) + 1


@every_method
def test_a_budget_of_start_and_mean_alone_goes_to_the_mean(method: str) -> None:
    asked = run(build(method, num_evaluations=START + 1))
    assert [len(alphas) for alphas in asked] == [START, 1]
    best = initial()[bowl(initial()).argmin()]
    expected = initial().mean(0) if method == "evolution" else best
    np.testing.assert_allclose(asked[-1][0], expected, atol=1e-15)
    with pytest.raises(ValueError, match=f"a budget of {START} .* the {START} of"):
        build(method, num_evaluations=START)


@every_method
@pytest.mark.parametrize("generations", [0, 1, 2, 4])
def test_a_search_that_is_told_the_same_again_goes_on_bit_for_bit(
    method: str, generations: int
) -> None:
    whole = run(build(method, num_evaluations=60))
    np.random.seed(generations)
    again = build(method, num_evaluations=60)
    for alphas in whole[:generations]:
        tell(again, alphas)
    rest = run(again)
    assert len(rest) == len(whole) - generations
    for one, other in zip(rest, whole[generations:], strict=True):
        assert np.array_equal(one, other)


@every_drawing_method
def test_seeds_and_generations_propose_different(method: str) -> None:
    first, other = (run(build(method, seed=seed))[1] for seed in (0, 1))
    assert not np.isclose(first, other).any()
    search = build(method)
    tell(search, initial())
    first = search.ask()
    tell(search, first, lambda alphas: np.full(len(alphas), np.inf))
    assert not np.isclose(search.ask() - search.mean, first - search.mean).all()


@every_drawing_method
def test_a_search_goes_on_where_every_other_fitness_is_not_a_number(
    method: str,
) -> None:
    def faulty(alphas: np.ndarray) -> np.ndarray:
        return np.where(np.arange(len(alphas)) % 2, bowl(alphas), np.nan)

    mean = run(build(method), faulty)[-1]
    assert bowl(mean)[0] < bowl(initial())[1::2].min()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_gradients_beat_cma_which_beats_chance_at_the_same_budget(seed: int) -> None:
    found = {
        method: float(bowl(run(build(method, num_evaluations=300, seed=seed))[-1])[0])
        for method in METHODS
    }
    assert 10 * found["gradient"] < found["cma"] < found["random"] / 10
    assert max(found.values()) < 0.8 * bowl(initial()).min()


@pytest.mark.parametrize("alpha", [[1.0, -1.0, 0.5, 0.0], [1.0, -1.0, 0.0, 0.0]])
def test_the_sum_is_mended_by_the_smallest_possible_change(alpha: list[float]) -> None:
    ones = np.ones(4)
    projection = alpha - ones * (alpha @ ones - 1) / (ones @ ones)
    np.testing.assert_allclose(with_sum_one(np.array(alpha)), projection)


@pytest.mark.parametrize("num", [2, 3, K])
def test_the_directions_are_orthonormal_with_sum_zero_and_treat_all_alike(
    num: int,
) -> None:
    basis = sum_zero_basis(num)
    np.testing.assert_allclose(basis.T @ basis, np.eye(num - 1), atol=1e-13)
    np.testing.assert_allclose(basis.sum(0), 0, atol=1e-13)
    np.testing.assert_allclose(basis @ basis.T, np.eye(num) - 1 / num, atol=1e-13)
