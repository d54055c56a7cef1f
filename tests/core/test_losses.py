from __future__ import annotations

import math
from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from lct_pipeline.core.losses import (
    PAPER_LAW,
    ROBUST_LOSSES,
    FittedC,
    LossName,
    Residual,
    constant_c,
    fit_power_law,
    mean_square,
    paper_c,
    squared_residual,
)

C = 0.03456


SCALES = [0.00025336, C, 1.0]


NAMES = get_args(LossName)


# as the reference prints them, of one squared residual m
REFERENCE: dict[LossName, Callable[[float, float], float]] = {
    "cauchy": lambda m, c: math.log(m / 2 + c**2) - 2 * math.log(c),
    "pseudo_huber": lambda m, c: math.sqrt(m + c**2) - c,
    "geman_mcclure": lambda m, c: 2 * m / (m + 4 * c**2),
    "l2": lambda m, c: m,
}


REDUCTION: dict[Residual, Callable[[np.ndarray], float]] = {
    "mean": lambda d: float(np.mean(d**2)),
    "sum": lambda d: float(np.sum(d**2)),
}


def differences(dtype: torch.dtype = torch.float64) -> Tensor:
    """Temporal differences from far below to far above c."""
    generator = torch.Generator().manual_seed(0)
    d = torch.randn(16, 4, 3, 5, generator=generator, dtype=torch.float64)
    sizes = torch.logspace(-3.5, 1.5, 16, dtype=torch.float64)
    return (d * sizes.reshape(-1, 1, 1, 1)).to(dtype)


@pytest.mark.parametrize("c", SCALES)
@pytest.mark.parametrize("residual", get_args(Residual))
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_losses_of_random_differences_are_those_of_the_reference(
    dtype: torch.dtype, name: LossName, residual: Residual, c: float
) -> None:
    d = differences(dtype)
    expected = [
        REFERENCE[name](REDUCTION[residual](sample), c) for sample in d.double().numpy()
    ]
    found = ROBUST_LOSSES[name](squared_residual(d, residual), c)
    assert ROBUST_LOSSES[name](torch.zeros(1), c).item() == 0
    assert found.shape == (16,)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "curvature"),
    [
        ("cauchy", 1 / (2 * C**2)),
        ("pseudo_huber", 1 / (2 * C)),
        ("geman_mcclure", 1 / (2 * C**2)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_small_residuals_count_quadratically_in_every_robust_loss(
    dtype: torch.dtype, name: LossName, curvature: float
) -> None:
    m = torch.tensor(1e-11, dtype=dtype)
    loss = ROBUST_LOSSES[name](m, C).item()
    assert loss == pytest.approx(curvature * 1e-11, rel=1e-6)


TABLE = [  # N and c of the reference, section 2.4
    (20, 0.013635),
    (40, 0.0061444),
    (80, 0.0027688),
    (160, 0.0012477),
    (320, 0.00056225),
    (640, 0.00025336),
]


def fitted(rms: dict[int, float], num_samples: int = 50) -> FittedC:
    """Statistics in which each N has the given root mean square."""
    c = FittedC()
    for n, value in rms.items():
        c.add(n, value**2 * num_samples, num_samples)
    return c


@pytest.mark.parametrize(("num_levels", "c"), TABLE)
def test_the_papers_c_is_the_table_of_the_reference(num_levels: int, c: float) -> None:
    found = paper_c(num_levels, s0=10, dimension=4096)
    assert found == pytest.approx(c, rel=5e-5)
    assert found == pytest.approx(num_levels**-1.15 / math.exp(0.85), rel=1e-12)


def test_the_papers_c_at_s0_is_the_constant_of_ict() -> None:
    assert constant_c(4 * 32 * 32) == pytest.approx(0.03456, rel=1e-12)
    assert constant_c(4 * 4096) == pytest.approx(2 * constant_c(4096))
    for s0, dimension in ((10, 4096), (20, 64)):
        assert paper_c(s0, s0=s0, dimension=dimension) == constant_c(dimension)


def test_the_fit_is_least_squares_in_logarithms() -> None:
    rms = {10: 0.05, 20: 0.011, 40: 0.0085, 80: 0.002}
    slope, intercept = np.polyfit(np.log(list(rms)), np.log(list(rms.values())), 1)
    found = fit_power_law(rms)
    assert found.slope == pytest.approx(slope, rel=1e-9)
    assert found.intercept == pytest.approx(intercept, rel=1e-9)


def test_one_point_fixes_the_intercept_and_none_gives_the_papers_law() -> None:
    law = fit_power_law({10: 0.07})
    assert law(10) == pytest.approx(0.07, rel=1e-12)
    assert law.slope == PAPER_LAW.slope
    assert fit_power_law({}) == PAPER_LAW
    assert FittedC()(10) == PAPER_LAW(10)


def test_rms_is_the_root_mean_squares_over_all_samples_and_elements() -> None:
    generator = torch.Generator().manual_seed(0)
    d = 0.3 * torch.randn(12, 2, 3, 3, generator=generator, dtype=torch.float64)
    c = FittedC()
    for part in (d[:5], d[5:6], d[6:]):  # of unequal size
        c.add(10, mean_square(part).sum().item(), len(part))
    c.add(20, 0.25 * 8, 8)
    expected = np.sqrt(np.mean(d.numpy() ** 2))
    assert c.rms() == pytest.approx({10: expected, 20: 0.5}, rel=1e-12)


@pytest.mark.parametrize("under_way", [10, 20, 40, 80])
def test_c_never_uses_the_stage_under_way_nor_a_later_one(under_way: int) -> None:
    before = {n: 0.5 / n for n in (10, 20, 40, 80) if n < under_way}
    c = fitted(before)
    expected = c(under_way)
    for n in (under_way, 2 * under_way, 4 * under_way):
        c.add(n, 1e6, 3)
        assert c(under_way) == expected


def test_a_stage_without_any_difference_says_nothing() -> None:
    c = fitted({10: 0.0, 20: 0.03})
    assert c.rms() == pytest.approx({20: 0.03})
    assert c(40) == pytest.approx(0.03 * 2**-1.15, rel=1e-12)
