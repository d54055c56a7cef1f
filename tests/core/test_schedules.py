from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from lct_pipeline.core.schedules import (
    curriculum,
    curriculum_stage,
    karras_sigmas,
    level_probabilities,
    num_stages,
    sample_levels,
    small_noise_pairs,
)

EDM = {"sigma_min": 0.002, "sigma_max": 80.0, "rho": 7.0}
ICT = {"P_mean": -1.1, "P_std": 2.0}
PAPER = {"num_steps": 294_000, "s0": 10, "s1": 640}


def sigmas_from_noisiest(num_levels: int) -> np.ndarray:
    """The grid as the reference writes it: i = 0 is sigma_max."""
    i = np.arange(num_levels + 1)
    high, low = 80 ** (1 / 7), 0.002 ** (1 / 7)
    return (high + i / num_levels * (low - high)) ** 7


@pytest.mark.parametrize("num_levels", [1, 2, 10, 20, 640])
def test_grid_is_the_reference_grid_reversed(num_levels: int) -> None:
    sigmas = karras_sigmas(num_levels, **EDM)
    assert sigmas.dtype == torch.float64
    np.testing.assert_allclose(
        sigmas.numpy(), sigmas_from_noisiest(num_levels)[::-1], rtol=1e-12
    )


def test_grid_ends_exactly_and_increases() -> None:
    sigmas = karras_sigmas(640, **EDM)
    assert sigmas[0] == 0.002
    assert sigmas[-1] == 80.0
    assert (sigmas.diff() > 0).all()


def test_grid_is_even_in_the_root_of_rho() -> None:
    roots = karras_sigmas(37, **EDM) ** (1 / EDM["rho"])
    np.testing.assert_allclose(roots.diff(), (roots[-1] - roots[0]).item() / 37)


@pytest.mark.parametrize(
    ("index", "sigma"),
    [(300, 3.309), (320, 2.515), (360, 1.404), (420, 0.529), (480, 0.170)],
)
def test_grid_has_the_levels_of_the_two_step_sweep(index: int, sigma: float) -> None:
    sigmas = karras_sigmas(640, **EDM)
    assert sigmas.flip(0)[index].item() == pytest.approx(sigma, abs=5e-4)
    assert sigmas_from_noisiest(640)[index] == pytest.approx(sigma, abs=5e-4)


def test_curriculum_of_the_paper_doubles_every_42000_steps() -> None:
    starts = [42_000 * stage for stage in range(7)]
    assert [curriculum(k, **PAPER) for k in starts] == [
        10 * 2**stage for stage in range(7)
    ]
    last = [start + 41_999 for start in starts]
    assert [curriculum(k, **PAPER) for k in last] == [
        curriculum(k, **PAPER) for k in starts
    ]


@pytest.mark.parametrize(("num_steps", "s0", "s1"), [(100, 10, 640), (7, 3, 50)])
def test_curriculum_is_ict_equation_11(num_steps: int, s0: int, s1: int) -> None:
    length = num_steps // (math.floor(math.log2(s1 // s0)) + 1)
    expected = [min(s0 * 2 ** (k // length), s1) for k in range(num_steps)]
    found = [curriculum(k, num_steps=num_steps, s0=s0, s1=s1) for k in range(num_steps)]
    last_stage = s0 * 2 ** (num_stages(s0, s1) - 1)
    assert found == [min(n, last_stage) for n in expected]


def test_curriculum_never_falls_and_stays_within_its_bounds() -> None:
    levels = [curriculum(k, num_steps=50, s0=10, s1=160) for k in range(120)]
    assert levels == sorted(levels)
    assert levels[0] == 10
    assert levels[-1] == 160


def test_a_run_shorter_than_its_stages_still_has_one_step_each() -> None:
    stages = [curriculum_stage(k, num_steps=3, s0=10, s1=640) for k in range(10)]
    assert stages == [0, 1, 2, 3, 4, 5, 6, 6, 6, 6]


def test_equal_bounds_make_a_single_stage() -> None:
    assert num_stages(10, 10) == 1
    assert {curriculum(k, num_steps=9, s0=10, s1=10) for k in range(20)} == {10}


@pytest.mark.parametrize("num_levels", [10, 20, 640])
def test_level_probabilities_are_a_log_normal_between_the_levels(
    num_levels: int,
) -> None:
    sigmas = karras_sigmas(num_levels, **EDM)
    probabilities = level_probabilities(sigmas, **ICT)
    cdf = stats.norm(ICT["P_mean"], ICT["P_std"]).cdf(np.log(sigmas.numpy()))
    np.testing.assert_allclose(
        probabilities, np.diff(cdf) / (cdf[-1] - cdf[0]), rtol=1e-9
    )
    assert probabilities.shape == (num_levels,)
    assert probabilities.sum().item() == pytest.approx(1, abs=1e-12)


def test_levels_are_drawn_as_often_as_their_probabilities_say() -> None:
    probabilities = level_probabilities(karras_sigmas(10, **EDM), **ICT)
    n = sample_levels(probabilities, 20_000, torch.Generator().manual_seed(0))
    counts = torch.bincount(n, minlength=10).numpy()
    test = stats.chisquare(counts, 20_000 * probabilities.numpy())
    assert test.pvalue > 1e-3


def test_drawn_levels_depend_on_the_generator_alone() -> None:
    probabilities = level_probabilities(karras_sigmas(20, **EDM), **ICT)
    draws = []
    for disturbance in (1, 2):
        torch.manual_seed(disturbance)
        generator = torch.Generator().manual_seed(5)
        draws.append(sample_levels(probabilities, 64, generator))
    assert torch.equal(*draws)


@pytest.mark.parametrize(
    ("num_levels", "threshold_level", "share"),
    [(10, 0.0851, 0.244), *((n, 0.16975, 0.366) for n in (20, 40, 80, 160, 320, 640))],
)
def test_diffusion_loss_acts_on_the_share_of_the_paper(
    num_levels: int, threshold_level: float, share: float
) -> None:
    sigmas = karras_sigmas(num_levels, **EDM)
    n = torch.arange(num_levels)
    mask = small_noise_pairs(n, num_levels=num_levels, threshold=0.75)
    t = sigmas[n + 1]
    assert t[mask].max().item() == pytest.approx(threshold_level, rel=1e-3)
    probabilities = level_probabilities(sigmas, **ICT)
    assert probabilities[mask].sum().item() == pytest.approx(share, abs=5e-4)


@pytest.mark.parametrize("num_levels", [1, 7, 10, 20])
@pytest.mark.parametrize("threshold", [0.0, 0.4, 0.75, 1.0])
def test_small_noise_pairs_count_from_the_noisiest_level(
    num_levels: int, threshold: float
) -> None:
    from_noisiest = [
        i >= int(threshold * (num_levels + 1)) for i in range(num_levels)
    ]  # i = 0 is the noisiest
    n = torch.arange(num_levels)
    mask = small_noise_pairs(n, num_levels=num_levels, threshold=threshold)
    assert mask.tolist() == from_noisiest[::-1]
