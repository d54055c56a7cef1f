"""What holds for every search."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from bowls import METHODS, K, bowl, build, initial, run, target, tell

from lct_pipeline.core.search.base import sum_zero_basis, with_sum_one

START = len(initial())

every_method = pytest.mark.parametrize("method", METHODS)
every_drawing_method = pytest.mark.parametrize("method", ["evolution", "cma", "random"])


def found(method: str, **changes: Any) -> float:
    """Return the fitness of the search mean that a search ends with."""
    return float(bowl(run(build(method, **changes))[-1])[0])


@every_method
def test_every_proposal_sums_to_one_and_negatives_occur(method: str) -> None:
    asked = np.concatenate(run(build(method)))
    np.testing.assert_allclose(asked.sum(1), 1, atol=1e-12)
    assert (asked < 0).any()


@every_method
def test_the_first_generation_is_the_initial_population(method: str) -> None:
    assert np.array_equal(build(method).ask(), initial())


@every_method
@pytest.mark.parametrize("budget", [START + 1, START + 2, 53, 200])
@pytest.mark.parametrize("cost", [0.3, 0.4375, 1, 4])
def test_the_budget_is_spent_as_far_as_it_holds_whole_candidates(
    method: str, budget: int, cost: float
) -> None:
    search = build(method, num_evaluations=budget, cost=cost)
    run(search)
    assert budget - cost < search.spent <= budget + 1e-9


@pytest.mark.parametrize("cost", [0.1, 0.3, 0.4375, 1, 4])
def test_every_method_counts_its_budget_alike(cost: float) -> None:
    numbers = {
        len(np.concatenate(run(build(method, num_evaluations=47, cost=cost))))
        for method in METHODS
    }
    assert numbers == {START + int(40 / cost + 1e-3) + 1}


@every_method
def test_what_a_generation_costs_is_known_before_it_is_told(method: str) -> None:
    search = build(method, cost=2.5)
    while not search.stop:
        alphas = search.ask()
        expected = search.spent_after(len(alphas))
        tell(search, alphas)
        assert search.spent == expected


@every_method
def test_spent_is_the_start_the_candidates_at_their_cost_and_the_centre(
    method: str,
) -> None:
    search = build(method, cost=2.5)
    spent = []
    for _ in range(3):
        alphas = search.ask()
        tell(search, alphas)
        spent.append(search.spent)
    size = len(alphas)
    assert spent == [START, START + 2.5 * size, START + 5 * size]
    run(search)
    num = (200 - 1 - START) // 2.5
    assert search.spent == START + 2.5 * num + 1


@every_method
def test_no_generation_is_larger_than_the_population(method: str) -> None:
    sizes = [len(alphas) for alphas in run(build(method))]
    assert all(1 <= size <= 10 for size in sizes[1:])


@every_method
def test_the_last_evaluation_is_the_centre(method: str) -> None:
    search = build(method, num_evaluations=90)
    while not search.asks_mean:
        tell(search, search.ask())
        assert not search.stop
    mean = search.mean
    assert np.array_equal(search.ask(), mean[None])
    tell(search, search.ask())
    assert search.stop
    assert np.array_equal(search.mean, mean)


@every_method
def test_a_budget_of_start_and_centre_alone_goes_to_the_centre(method: str) -> None:
    asked = run(build(method, num_evaluations=START + 1))
    assert [len(alphas) for alphas in asked] == [START, 1]
    best = initial()[bowl(initial()).argmin()]
    expected = initial().mean(0) if method == "evolution" else best
    np.testing.assert_allclose(asked[-1][0], expected, atol=1e-15)


@every_method
def test_a_budget_that_is_too_small_is_refused(method: str) -> None:
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
    assert all(
        np.array_equal(a, b) for a, b in zip(rest, whole[generations:], strict=True)
    )


@every_method
def test_asking_again_proposes_the_same(method: str) -> None:
    search = build(method)
    for _ in range(3):
        assert np.array_equal(search.ask(), search.ask())
        tell(search, search.ask())


@every_drawing_method
def test_seeds_propose_different(method: str) -> None:
    first, other = (run(build(method, seed=seed))[1] for seed in (0, 1))
    assert not np.isclose(first, other).any()


@every_drawing_method
def test_generations_are_drawn_anew(method: str) -> None:
    search = build(method)
    tell(search, initial())
    first = search.ask()
    tell(search, first, lambda alphas: np.full(len(alphas), np.inf))
    assert not np.isclose(search.ask() - search.mean, first - search.mean).all()


@every_method
def test_a_start_whose_fitness_is_not_a_number_is_never_the_best(method: str) -> None:
    search = build(method, num_evaluations=START + 1)
    fitness = bowl(initial())
    fitness[fitness.argmin()] = np.nan
    search.tell(search.ask(), fitness)
    best = initial()[np.nanargmin(fitness)]
    start = search.survivors[0] if method == "evolution" else search.mean
    np.testing.assert_allclose(start, best, atol=1e-15)


@every_drawing_method
def test_a_search_goes_on_where_every_other_fitness_is_not_a_number(
    method: str,
) -> None:
    def faulty(alphas: np.ndarray) -> np.ndarray:
        return np.where(np.arange(len(alphas)) % 2, bowl(alphas), np.nan)

    mean = run(build(method), faulty)[-1]
    assert bowl(mean)[0] < bowl(initial())[1::2].min()


@every_method
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_centre_ends_nearer_to_the_bottom_than_the_start(
    method: str, seed: int
) -> None:
    assert found(method, seed=seed) < 0.8 * bowl(initial()).min()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_gradients_beat_cma_which_beats_chance_at_the_same_budget(seed: int) -> None:
    gradient, cma, chance = (
        found(method, num_evaluations=300, seed=seed)
        for method in ("gradient", "cma", "random")
    )
    assert 10 * gradient < cma < chance / 10


def test_only_the_gradient_search_needs_gradients() -> None:
    assert [m for m in METHODS if build(m).needs_gradients] == ["gradient"]


def test_the_sum_is_mended_by_the_smallest_possible_change() -> None:
    alpha = np.array([1.0, -1.0, 0.5, 0.0])
    ones = np.ones(4)
    projection = alpha - ones * (alpha @ ones - 1) / (ones @ ones)
    np.testing.assert_allclose(with_sum_one(alpha), projection)


def test_a_sum_of_zero_is_mended_like_any_other() -> None:
    np.testing.assert_allclose(with_sum_one(np.array([1.0, -1.0])), [1.5, -0.5])


@pytest.mark.parametrize("num", [2, 3, 40])
def test_the_directions_are_orthonormal_with_sum_zero(num: int) -> None:
    basis = sum_zero_basis(num)
    assert basis.shape == (num, num - 1)
    np.testing.assert_allclose(basis.T @ basis, np.eye(num - 1), atol=1e-13)
    np.testing.assert_allclose(basis.sum(0), 0, atol=1e-13)


def test_the_directions_treat_all_coefficients_alike() -> None:
    basis = sum_zero_basis(K)
    np.testing.assert_allclose(basis @ basis.T, np.eye(K) - 1 / K, atol=1e-13)


def test_the_bottom_of_the_bowl_lies_among_sums_of_one() -> None:
    assert target().sum() == pytest.approx(1)
