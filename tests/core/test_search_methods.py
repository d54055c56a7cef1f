"""Evolution, CMA-ES, random and gradient search on a quadratic bowl."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from bowls import K, bowl, build, initial, run, slope, target, tell

from lct_pipeline.core.search import sum_zero_basis
from lct_pipeline.core.search_methods import GradientSearch, crossover, mutate


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


def test_what_cannot_be_measured_neither_survives_nor_breeds() -> None:
    search = build("evolution", population=8)
    is_good = np.arange(len(initial())) == 2
    search.tell(search.ask(), np.where(is_good, 1.0, np.inf))
    assert np.array_equal(search.survivors, initial()[is_good])
    search.tell(search.ask(), np.full(8, np.nan))
    np.testing.assert_allclose(search.mean, initial()[2], atol=1e-14)


def test_a_step_that_cannot_be_measured_is_halved() -> None:
    search = started(num_evaluations=90)
    start = search.ask()[0]
    tell(search, search.ask())
    step = search.ask()[0] - start
    for share, bad in [(0.5, {"fitness": np.inf}), (0.25, {"gradients": np.nan})]:
        given: Any = {"fitness": np.zeros(1), "gradients": np.zeros((1, K))}
        given |= {name: np.full_like(given[name], value) for name, value in bad.items()}
        search.tell(search.ask(), **given)
        np.testing.assert_allclose(search.ask()[0], start + share * step, atol=1e-12)


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


SIZE = 0.3 / K**0.5  # of the first step, in each direction


PULL = np.random.default_rng(1).normal(size=K)  # a gradient that is the same everywhere


def started(**changes: float) -> GradientSearch:
    """Return a gradient search that was told the start."""
    search = build("gradient", **changes)
    tell(search, search.ask())
    return search


def walk(search: GradientSearch) -> np.ndarray:
    """Return z, (S, K - 1), of all steps under one gradient; the start is at 0."""
    origin, path = search.ask()[0], []
    while not search.asks_mean:
        (alpha,) = search.ask()  # one candidate, whatever the population
        path.append(alpha)
        search.tell(alpha[None], np.zeros(1), PULL[None])
    return (np.stack(path) - origin) @ sum_zero_basis(K)


def test_the_mean_is_that_of_the_last_half_of_as_many_steps_as_the_budget_pays() -> (
    None
):
    search = started(num_evaluations=len(initial()) + 1 + 4 * 5 + 3)
    path, origin = walk(search), initial()[bowl(initial()).argmin()]
    assert len(path) == 5
    last = path[-1] - SIZE / 5 * np.sign(PULL @ sum_zero_basis(K))
    mean = np.concatenate([path[3:], last[None]]).mean(0)
    expected = origin + sum_zero_basis(K) @ mean
    np.testing.assert_allclose(search.mean, expected, atol=1e-9)


def test_steps_are_those_of_torchs_adam_with_a_linear_schedule() -> None:
    search = started(num_evaluations=90)
    origin, basis = search.ask()[0], torch.from_numpy(sum_zero_basis(K))
    z = torch.zeros(K - 1, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([z], lr=SIZE, betas=(0.9, 0.99), eps=1e-12)
    num = (90 - 1 - len(initial())) // 4
    falling = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: 1 - step / num)
    for _ in range(num):
        alpha = torch.from_numpy(origin) + basis @ z
        np.testing.assert_allclose(search.ask()[0], alpha.detach(), atol=1e-12)
        tell(search, search.ask())
        z.grad = basis.T @ torch.from_numpy(slope(alpha.detach().numpy()[None])[0])
        adam.step()
        falling.step()
    assert search.asks_mean
