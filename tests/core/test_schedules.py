from __future__ import annotations

import math

import pytest
import torch
from describing import GRID

from lct_pipeline.core.levels import (
    curriculum,
    curriculum_stage,
    karras_sigmas,
    num_stages,
    small_noise_pairs,
)


def test_grid_ends_exactly_and_increases() -> None:
    sigmas = karras_sigmas(640, **GRID)
    assert sigmas[0] == 0.002
    assert sigmas[-1] == 80.0
    assert (sigmas.diff() > 0).all()


@pytest.mark.parametrize(
    ("index", "sigma"),
    [(300, 3.309), (320, 2.515), (360, 1.404), (420, 0.529), (480, 0.170)],
)
def test_grid_has_the_levels_of_the_two_step_sweep(index: int, sigma: float) -> None:
    sigmas = karras_sigmas(640, **GRID)
    assert sigmas.flip(0)[index].item() == pytest.approx(sigma, abs=5e-4)


@pytest.mark.parametrize(("num_steps", "s0", "s1"), [(100, 10, 640), (7, 3, 50)])
def test_curriculum_is_ict_equation_11(num_steps: int, s0: int, s1: int) -> None:
    length = num_steps // (math.floor(math.log2(s1 // s0)) + 1)
    expected = [min(s0 * 2 ** (k // length), s1) for k in range(num_steps)]
    found = [curriculum(k, num_steps=num_steps, s0=s0, s1=s1) for k in range(num_steps)]
    last_stage = s0 * 2 ** (num_stages(s0, s1) - 1)
    assert found == [min(n, last_stage) for n in expected]


def test_a_run_shorter_than_its_stages_still_has_one_step_each() -> None:
    stages = [curriculum_stage(k, num_steps=3, num_stages=7) for k in range(10)]
    assert stages == [0, 1, 2, 3, 4, 5, 6, 6, 6, 6]


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
