"""Grid, curriculum and drawn levels, against the formulas of the reference."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from describing import ECT, INDEX, P_MEAN, P_STD, STAGE
from scipy import special, stats

from lct_pipeline.core.levels import (
    ContinuousSchedule,
    DiffusionSchedule,
    IndexSchedule,
    LevelSchedule,
    TruncatedSchedule,
    log_normal_levels,
    small_noise_level,
)
from lct_pipeline.core.objectives import Levels

DIFFUSION = DiffusionSchedule(P_mean=-1.2, P_std=1.2)


GRIDS = [10, 20, 40, 80, 160, 320, 640]


LOG_T = stats.norm(P_MEAN, P_STD)


SCHEDULES: list[LevelSchedule] = [
    INDEX,
    ECT,
    DIFFUSION,
    TruncatedSchedule(INDEX, truncation=1.0, boundary_share=0.25),
    TruncatedSchedule(ECT, truncation=1.0, boundary_share=0.25),
]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(
    schedule: LevelSchedule, num_samples: int, *, step: int = 0, above: float = 0.0
) -> Levels:
    return schedule.draw(step, num_samples, generator(), above)


def reference_grid(N: int) -> np.ndarray:
    """sigma_i as the reference counts it: i = 0 is the noisiest."""
    i = np.arange(N + 1)
    high, low = 80 ** (1 / 7), 0.002 ** (1 / 7)
    return (high + i / N * (low - high)) ** 7


def reference_probabilities(N: int) -> np.ndarray:
    """p(i) of the pair (sigma_i, sigma_{i + 1})."""
    cumulative = special.erf(
        (np.log(reference_grid(N)) - P_MEAN) / (math.sqrt(2) * P_STD)
    )
    weights = cumulative[:-1] - cumulative[1:]
    return weights / weights.sum()


def reference_ratio(t: np.ndarray, stage: int) -> np.ndarray:
    """R / t of ECT with the values for CIFAR-10, before it is clipped at 0."""
    return 1 - 1 / 2 ** (stage + 1) * (1 + 8 * special.expit(-t))


@pytest.mark.parametrize("N", GRIDS)
def test_the_grid_and_its_probabilities_are_those_of_the_reference_reversed(
    N: int,
) -> None:
    sigmas, probabilities = INDEX.grid(N)
    assert sigmas.dtype == probabilities.dtype == torch.float64
    np.testing.assert_allclose(sigmas, reference_grid(N)[::-1], rtol=1e-12)
    assert (sigmas[0], sigmas[-1]) == (0.002, 80.0)  # exactly
    np.testing.assert_allclose(
        probabilities, reference_probabilities(N)[::-1], rtol=1e-6
    )


@pytest.mark.parametrize("N", [10, 20, 640])
def test_drawn_pairs_and_their_diffusion_loss_are_those_of_the_reference(
    N: int,
) -> None:
    found = draw(INDEX, 40_000, step=STAGE * GRIDS.index(N))
    sigmas = reference_grid(N)
    i = np.abs(np.log(found.t.numpy()[:, None] / sigmas)).argmin(1)
    np.testing.assert_allclose(found.t, sigmas[i], rtol=1e-12)
    np.testing.assert_allclose(found.r, sigmas[i + 1], rtol=1e-12)
    assert np.array_equal(found.small_noise, i >= int(0.75 * (N + 1)))

    expected = 40_000 * reference_probabilities(N)
    counts = np.bincount(i, minlength=N)
    often = expected > 5
    assert stats.chisquare(counts[often], expected[often], sum_check=False).pvalue > (
        1e-3
    )


@pytest.mark.parametrize(
    ("N", "threshold", "share"),
    [(10, 0.0851, 0.244), *((N, 0.16975, 0.366) for N in GRIDS[1:])],
)
def test_the_diffusion_loss_acts_on_the_papers_share_of_a_batch(
    N: int, threshold: float, share: float
) -> None:
    found = draw(INDEX, 40_000, step=STAGE * GRIDS.index(N))
    assert found.small_noise.double().mean().item() == pytest.approx(share, abs=0.01)
    assert found.t[found.small_noise].max().item() == pytest.approx(threshold, rel=1e-3)
    assert (found.t[~found.small_noise] > threshold).all()


@pytest.mark.parametrize("above", [0.1, 1.0, 20.0])
def test_the_table_above_a_level_is_the_conditional_distribution(above: float) -> None:
    found = draw(INDEX, 40_000, above=above)
    assert (found.t >= above).all()
    t, p = reference_grid(10)[:-1], reference_probabilities(10)
    expected = np.where(t >= above, p, 0) / p[t >= above].sum()
    shares = (found.t.numpy()[:, None] == INDEX.grid(10)[0].numpy()[None, :0:-1]).mean(
        0
    )
    np.testing.assert_allclose(shares, expected, atol=0.01)


@pytest.mark.parametrize("stage", range(7))
def test_the_lower_level_is_the_formula_of_ect(stage: int) -> None:
    found = draw(ECT, 2000, step=STAGE * stage)
    t = found.t.numpy()
    expected = np.maximum(t * reference_ratio(t, stage), 0)
    np.testing.assert_allclose(found.r, expected, rtol=1e-9, atol=1e-15)
    assert (found.t > found.r).all()


def test_the_nominal_number_of_levels_doubles_as_the_gap_halves() -> None:
    assert [ECT.num_levels(STAGE * stage) for stage in range(7)] == GRIDS
    assert [ECT.stage(k) for k in (0, STAGE - 1, STAGE, 6 * STAGE, 99 * STAGE)] == [
        *(0, 0, 1, 6, 6)
    ]
    short = replace(ECT, num_steps=3)
    assert [short.stage(k) for k in range(9)] == [0, 1, 2, 3, 4, 5, 6, 6, 6]


@pytest.mark.parametrize("threshold", [0.4, 0.75])
def test_the_level_below_which_the_diffusion_loss_acts_is_the_limit_of_the_table(
    threshold: float,
) -> None:
    found = small_noise_level(threshold, sigma_min=0.002, sigma_max=80.0, rho=7.0)
    sigmas = reference_grid(100_000)
    limit = sigmas[int(threshold * 100_001)]
    assert found == pytest.approx(limit, rel=1e-3)
    if threshold == 0.75:
        assert found == pytest.approx(0.16975, rel=1e-4)


def test_diffusion_levels_are_single_and_log_normal() -> None:
    found = draw(DIFFUSION, 40_000, step=123)
    assert stats.kstest(found.t.log(), stats.norm(-1.2, 1.2).cdf).pvalue > 1e-3
    assert (found.r == 0).all()
    assert not found.small_noise.any()
    assert {DIFFUSION.num_levels(step) for step in (0, 10, 10**6)} == {1}


@pytest.mark.parametrize("above", [0.01, 1.0, 40.0])
@pytest.mark.parametrize("below", [50.0, math.inf])
def test_levels_within_bounds_have_the_conditional_distribution(
    above: float, below: float
) -> None:
    t = log_normal_levels(40_000, generator(), P_MEAN, P_STD, above, below).numpy()
    assert (t >= above).all() and (t <= below).all()
    low, high = LOG_T.cdf(np.log([above, below]))
    conditional = (LOG_T.cdf(np.log(t)) - low) / (high - low)
    assert stats.kstest(conditional, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("schedule", [INDEX, ECT], ids=["index", "continuous"])
@pytest.mark.parametrize("stage", [0, 1, 3, 6])
@pytest.mark.parametrize("truncation", [0.3, 1.0, 7.0])
def test_the_boundary_of_truncated_levels_is_the_truncation_itself(
    schedule: IndexSchedule | ContinuousSchedule, stage: int, truncation: float
) -> None:
    step = STAGE * stage
    truncated = TruncatedSchedule(schedule, truncation, boundary_share=0.25)
    found = draw(truncated, 20_000, step=step)
    assert (found.t > found.r).all()
    assert truncated.num_levels(step) == schedule.num_levels(step)
    boundary = found.t == truncation
    assert boundary.sum() == 5000
    assert (found.t[~boundary] > truncation).all()
    r = found.r[boundary].unique().item()
    if schedule is INDEX:  # one interval of EDM's formula below t', off the grid
        sigmas = reference_grid(GRIDS[stage])
        low, high = 0.002 ** (1 / 7), 80 ** (1 / 7)
        below = truncation ** (1 / 7) - (high - low) / GRIDS[stage]
        assert r == pytest.approx(max(below, low) ** 7, rel=1e-9)
        straddling = (found.r < truncation) & ~boundary
        assert np.isclose(found.t[straddling].unique(), sigmas[sigmas > truncation][-1])
    else:
        ratio = reference_ratio(np.array(truncation), stage)
        assert r == pytest.approx(max(truncation * ratio, 0), rel=1e-12)


@pytest.mark.parametrize("schedule", [INDEX, ECT], ids=["index", "continuous"])
@pytest.mark.parametrize(
    ("size", "share", "num"), [(11, 0.25, 2), (8, 0.0, 0), (8, 1.0, 8)]
)
def test_an_exact_share_of_each_batch_is_at_the_boundary_in_places_drawn_anew(
    schedule: IndexSchedule | ContinuousSchedule, size: int, share: float, num: int
) -> None:
    truncation = INDEX.grid(10)[0][5].item()  # which other pairs could begin at, too
    truncated = TruncatedSchedule(schedule, truncation, share)
    draws = [truncated.draw(0, size, generator(seed), 0.0) for seed in range(9)]
    masks = {tuple((found.t == truncation).tolist()) for found in draws}
    assert {sum(mask) for mask in masks} == {num}
    assert len(masks) > 1 or num in (0, size)


def test_a_grid_level_is_its_own_pair_and_a_pair_at_a_level_is_its_neighbours() -> None:
    sigmas, _ = INDEX.grid(20)
    found = INDEX.pairs_at(STAGE, sigmas[1:])
    on_grid = INDEX.pairs(20, torch.arange(20))
    torch.testing.assert_close(found.r, on_grid.r, rtol=1e-9, atol=0)
    inside = torch.arange(20) != 4  # where rounding decides on which side it is
    assert torch.equal(found.small_noise[inside], on_grid.small_noise[inside])


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_levels_are_float64_and_depend_on_the_generator_alone(
    schedule: LevelSchedule,
) -> None:
    draws = []
    for disturbance in (1, 2):
        torch.manual_seed(disturbance)
        draws.append(schedule.draw(5, 64, generator(7), 0.0))
    other = schedule.draw(5, 64, generator(8), 0.0)
    for first, second in zip(*draws, strict=True):
        assert torch.equal(first, second)
        assert first.shape == (64,)
    assert not torch.equal(draws[0].t, other.t)
    t, r, small_noise = other
    assert t.dtype == r.dtype == torch.float64
    assert small_noise.dtype == torch.bool
    assert torch.isfinite(t).all()
    assert (t > r).all()
    assert (r >= 0).all()
