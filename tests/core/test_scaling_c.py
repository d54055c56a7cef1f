from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lct_pipeline.core.losses import mean_square
from lct_pipeline.core.scaling_c import (
    PAPER_LAW,
    FittedC,
    PowerLaw,
    constant_c,
    fit_power_law,
    paper_c,
)

TABLE = [  # N and c of the reference, section 2.4
    (20, 0.013635),
    (40, 0.0061444),
    (80, 0.0027688),
    (160, 0.0012477),
    (320, 0.00056225),
    (640, 0.00025336),
]


def fitted(spreads: dict[int, float], num_samples: int = 50) -> FittedC:
    """Statistics in which each N has the given root mean square."""
    c = FittedC()
    for n, spread in spreads.items():
        c.add(n, spread**2 * num_samples, num_samples)
    return c


# iCT's constant and the law of the authors' code


def test_the_constant_is_that_of_ict_for_the_papers_latents() -> None:
    assert constant_c(4 * 32 * 32) == pytest.approx(0.03456, rel=1e-12)
    assert constant_c(4 * 4096) == pytest.approx(2 * constant_c(4096))


@pytest.mark.parametrize(("num_levels", "c"), TABLE)
def test_the_papers_c_is_the_table_of_the_reference(num_levels: int, c: float) -> None:
    found = paper_c(num_levels, s0=10, dimension=4096)
    assert found == pytest.approx(c, rel=5e-5)
    assert found == pytest.approx(num_levels**-1.15 / math.exp(0.85), rel=1e-12)


@pytest.mark.parametrize(("s0", "dimension"), [(10, 4096), (20, 64)])
def test_the_papers_c_of_the_first_stage_is_the_constant(
    s0: int, dimension: int
) -> None:
    assert paper_c(s0, s0=s0, dimension=dimension) == constant_c(dimension)
    second = paper_c(2 * s0, s0=s0, dimension=dimension)
    assert second == pytest.approx(math.exp(-1.15 * math.log(2 * s0) - 0.85))


def test_the_papers_c_falls_by_a_power_of_two_at_each_doubling() -> None:
    values = [paper_c(10 * 2**k, s0=10, dimension=4096) for k in range(1, 7)]
    np.testing.assert_allclose(np.divide(values[1:], values[:-1]), 2**-1.15)


# the fit


@pytest.mark.parametrize("law", [PAPER_LAW, PowerLaw(-0.7, 0.3), PowerLaw(0.2, -2.0)])
@pytest.mark.parametrize("num_points", [2, 3, 7])
def test_the_fit_recovers_an_exact_law(law: PowerLaw, num_points: int) -> None:
    spreads = {10 * 2**k: law(10 * 2**k) for k in range(num_points)}
    found = fit_power_law(spreads)
    assert found.slope == pytest.approx(law.slope, rel=1e-9)
    assert found.intercept == pytest.approx(law.intercept, rel=1e-9)


def test_the_fit_is_least_squares_in_logarithms() -> None:
    spreads = {10: 0.05, 20: 0.011, 40: 0.0085, 80: 0.002}
    slope, intercept = np.polyfit(
        np.log(list(spreads)), np.log(list(spreads.values())), 1
    )
    found = fit_power_law(spreads)
    assert found.slope == pytest.approx(slope, rel=1e-9)
    assert found.intercept == pytest.approx(intercept, rel=1e-9)


def test_one_point_fixes_the_intercept_and_none_gives_the_papers_law() -> None:
    law = fit_power_law({10: 0.07})
    assert law(10) == pytest.approx(0.07, rel=1e-12)
    assert law.slope == PAPER_LAW.slope
    assert fit_power_law({}) == PAPER_LAW


# c fitted while training


def test_spreads_are_root_mean_squares_over_all_samples_and_elements() -> None:
    generator = torch.Generator().manual_seed(0)
    d = 0.3 * torch.randn(12, 2, 3, 3, generator=generator, dtype=torch.float64)
    c = FittedC()
    for part in (d[:5], d[5:6], d[6:]):  # of unequal size
        c.add(10, mean_square(part).sum().item(), len(part))
    c.add(20, 0.25 * 8, 8)
    expected = np.sqrt(np.mean(d.numpy() ** 2))
    assert c.spreads() == pytest.approx({10: expected, 20: 0.5}, rel=1e-12)


def test_the_first_stage_has_the_papers_law() -> None:
    assert FittedC()(10) == pytest.approx(math.exp(-1.15 * math.log(10) - 0.85))


def test_the_second_stage_has_the_papers_slope_through_the_measured_point() -> None:
    assert fitted({10: 0.07})(20) == pytest.approx(0.07 * 2**-1.15, rel=1e-12)


def test_later_stages_have_a_slope_of_their_own() -> None:
    c = fitted({10: 0.08, 20: 0.02})
    assert c(40) == pytest.approx(0.005, rel=1e-12)
    c.add(40, 0.005**2 * 7, 7)
    assert c(80) == pytest.approx(0.00125, rel=1e-12)


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
    assert c.spreads() == pytest.approx({20: 0.03})
    assert c(40) == pytest.approx(0.03 * 2**-1.15, rel=1e-12)
