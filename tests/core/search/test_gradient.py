from __future__ import annotations

import numpy as np
import pytest
import torch
from bowls import K, bowl, build, initial, slope, tell

from lct_pipeline.core.search import sum_zero_basis
from lct_pipeline.core.search_methods import GradientSearch

SIZE = 0.3 / K**0.5  # of the first step, in each direction
PULL = np.random.default_rng(1).normal(size=K)  # a gradient that is the same everywhere


def started(**changes: float) -> GradientSearch:
    search = build("gradient", **changes)
    tell(search, search.ask())
    return search


def walk(search: GradientSearch, pull: np.ndarray = PULL) -> np.ndarray:
    """Return z, (S, K - 1), of all steps under one gradient; the start is at 0."""
    origin, path = search.ask()[0], []
    while not search.asks_mean:
        (alpha,) = search.ask()  # one candidate, whatever the population
        path.append(alpha)
        search.tell(alpha[None], np.zeros(1), pull[None])
    return (np.stack(path) - origin) @ sum_zero_basis(K)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_steps_go_down_the_slope_from_the_size_that_was_given_to_zero(
    scale: float,
) -> None:
    best = initial()[bowl(initial()).argmin()]
    assert np.array_equal(started().ask()[0], best)
    path = walk(started(), scale * PULL)
    signs = -np.sign(PULL @ sum_zero_basis(K))
    # the last of so many steps leads to what the search mean alone knows
    sizes = SIZE * (1 - np.arange(len(path) - 1) / len(path))
    np.testing.assert_allclose(np.diff(path, axis=0), sizes[:, None] * signs, rtol=1e-4)


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


def test_what_all_coefficients_gain_alike_moves_nothing() -> None:
    plain, shifted = walk(started(), PULL), walk(started(), PULL + 5)
    np.testing.assert_allclose(plain, shifted, atol=1e-9)


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


def test_noisy_gradients_are_averaged_out() -> None:
    search = started(num_evaluations=400)
    rng = np.random.default_rng(3)
    while not search.stop:
        alphas = search.ask()
        noise = rng.normal(size=alphas.shape)  # longer than most gradients
        search.tell(alphas, bowl(alphas), slope(alphas) + noise)
    assert bowl(alphas)[0] < 0.2 * bowl(initial()).min()
