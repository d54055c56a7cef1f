from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from describing import ECT, GRID, INDEX, random_mlp
from torch import Tensor

from lct_pipeline.core.levels import (
    ContinuousSchedule,
    IndexSchedule,
    TruncatedSchedule,
)
from lct_pipeline.core.objectives import Batch
from lct_pipeline.core.preconditioning import Denoiser
from lct_pipeline.core.temporal_differences import (
    interpolation_weights,
    pooled_std,
    spread_evenly,
    stage_pairs,
    temporal_differences,
)

CONTINUOUS = replace(ECT, num_stages=4, num_steps=40)


LAST = INDEX.num_steps - 1  # a step of the last stage, N = 640


@pytest.fixture
def denoiser() -> Denoiser:
    return random_mlp((2, 2, 2), dropout=0.5, num_classes=3).eval()


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    x, eps = (torch.randn(12, 2, 2, 2, generator=generator) for _ in range(2))
    return Batch(0.5 * x, eps, torch.arange(12) % 4)


def plain(
    denoiser: Denoiser, x: Tensor, eps: Tensor, label: Tensor, t: float
) -> Tensor:
    """f(x + t eps, t) of one sample, from the formulas of EDM with the boundary of CM."""
    x_t = x + t * eps
    c_skip = 0.25 / ((t - 0.002) ** 2 + 0.25)
    c_out = 0.5 * (t - 0.002) / math.sqrt(t**2 + 0.25)
    c_noise = torch.tensor([250 * math.log(t)])
    F_x = denoiser.network(x_t[None] / math.sqrt(t**2 + 0.25), c_noise, label[None])
    return c_skip * x_t + c_out * F_x[0]


@pytest.mark.parametrize(
    ("t", "r"), [(80.0, 60.0), (1.2, 0.9), (0.01, 0.002), (1.0, 0.0)]
)
def test_differences_are_those_of_a_plain_loop(
    denoiser: Denoiser, batch: Batch, t: float, r: float
) -> None:
    (found,) = temporal_differences(denoiser, [batch], t, r)
    assert not found.requires_grad
    for d, *sample in zip(found, *batch, strict=True):
        # at level 0 the target is the clean sample
        target = plain(denoiser, *sample, r) if r else sample[0]
        expected = plain(denoiser, *sample, t) - target
        torch.testing.assert_close(d, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("num_items", "num_chosen"),
    [(640, 21), (10, 21), (21, 21), (22, 21), (40, 21), (1, 5), (0, 5)],
)
def test_indices_spread_evenly_with_both_ends(num_items: int, num_chosen: int) -> None:
    found = spread_evenly(num_items, num_chosen)
    assert len(found) == min(num_items, num_chosen)
    assert set(found[[0, -1]] if num_items else []) <= {0, num_items - 1}
    gaps = np.diff(found)
    assert (gaps > 0).all()
    assert np.ptp(gaps) <= 1 if len(gaps) else True


def reference_sigmas(N: int) -> list[float]:
    """Decreasing levels, as the authors' code counts them."""
    low, high = 0.002 ** (1 / 7), 80 ** (1 / 7)
    return [(high + i / N * (low - high)) ** 7 for i in range(N + 1)]


def test_pairs_are_adjacent_levels_of_the_grid_from_the_least_to_the_most_noisy() -> (
    None
):
    pairs = stage_pairs(INDEX, LAST, 21, **GRID)
    sigmas = reference_sigmas(640)
    assert len(pairs) == 21
    assert (pairs[0].n, pairs[-1].n) == (0, 639)
    for pair in pairs:
        assert pair.t == pytest.approx(sigmas[639 - pair.n])
        assert pair.r == pytest.approx(sigmas[640 - pair.n])


def test_a_coarse_grid_has_all_of_its_pairs_with_their_probabilities() -> None:
    pairs = stage_pairs(INDEX, 0, 21, **GRID)
    sigmas = reference_sigmas(10)[::-1]
    cumulative = [math.erf((math.log(s) + 1.1) / (2 * math.sqrt(2))) for s in sigmas]
    weights = np.diff(cumulative) / (cumulative[-1] - cumulative[0])
    assert [pair.n for pair in pairs] == list(range(10))
    np.testing.assert_allclose([pair.weight for pair in pairs], weights)


def test_continuous_pairs_follow_the_map_from_t_to_r() -> None:
    pairs = stage_pairs(CONTINUOUS, 15, 5, **GRID)  # the second stage, N = 20
    assert [pair.n for pair in pairs] == [0, 5, 10, 14, 19]
    for pair in pairs:
        assert pair.t == pytest.approx(reference_sigmas(20)[19 - pair.n])
        ratio = 1 - (1 + 8 / (1 + math.exp(pair.t))) / 4
        assert pair.r == pytest.approx(max(pair.t * ratio, 0))
    assert pairs[0].r == 0


@pytest.mark.parametrize("base", [INDEX, CONTINUOUS])
def test_a_truncated_model_has_the_pairs_that_it_serves(
    base: IndexSchedule | ContinuousSchedule,
) -> None:
    every = stage_pairs(base, 0, 100, **GRID)
    pairs = stage_pairs(TruncatedSchedule(base, 1.0, 0.25), 0, 100, **GRID)
    served = [pair for pair in every if pair.r >= 1]
    assert [pair[:3] for pair in pairs] == [pair[:3] for pair in served]
    assert 0 < len(pairs) < len(every)
    assert sum(pair.weight for pair in pairs) == pytest.approx(1)
    assert stage_pairs(TruncatedSchedule(base, 79.9, 0.25), 0, 5, **GRID) == []


def test_weights_are_exact_for_what_is_linear_between_the_chosen() -> None:
    probabilities = np.random.default_rng(0).random(40)
    chosen = np.array([0, 7, 20, 39])
    weights = interpolation_weights(probabilities, chosen)
    assert weights.sum() == pytest.approx(1)
    values = np.interp(np.arange(40), chosen, [3.0, -1.0, 4.0, 1.0])
    expected = np.average(values, weights=probabilities)
    assert weights @ values[chosen] == pytest.approx(expected)


def test_the_pooled_deviation_is_that_of_all_values_together() -> None:
    rng = np.random.default_rng(0)
    groups = [
        rng.normal(m, s, size=n) for m, s, n in ((0, 1, 30), (2, 3, 70), (-1, 0.1, 5))
    ]
    found = pooled_std(
        np.array([g.mean() for g in groups]),
        np.array([g.std() for g in groups]),
        np.array([len(g) for g in groups]),
    )
    assert found == pytest.approx(np.concatenate(groups).std())
