from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from lct_pipeline.core.losses import (
    ROBUST_LOSSES,
    LossName,
    adaptive_c,
    cauchy_loss,
    consistency_weights,
    constant_c,
    diffusion_weights,
    geman_mcclure_loss,
    mean_square,
    pseudo_huber_loss,
)

M = torch.logspace(-6, 6, 25, dtype=torch.float64)
C = 0.03456

REFERENCE: dict[LossName, Callable[[float, float], float]] = {
    "cauchy": lambda m, c: math.log(m / 2 + c**2) - 2 * math.log(c),
    "pseudo_huber": lambda m, c: math.sqrt(m + c**2) - c,
    "geman_mcclure": lambda m, c: 2 * m / (m + 4 * c**2),
    "l2": lambda m, c: m,
}


@pytest.mark.parametrize("name", list(ROBUST_LOSSES))
@pytest.mark.parametrize("c", [0.00025336, C, 1.0])
def test_robust_losses_are_those_of_the_reference(name: LossName, c: float) -> None:
    expected = [REFERENCE[name](m, c) for m in M.tolist()]
    np.testing.assert_allclose(ROBUST_LOSSES[name](M, c), expected, rtol=1e-8)


@pytest.mark.parametrize("name", list(ROBUST_LOSSES))
def test_robust_losses_are_zero_at_zero_and_grow(name: LossName) -> None:
    rho = ROBUST_LOSSES[name]
    assert rho(torch.zeros(1), C).item() == 0
    assert (rho(M, C).diff() > 0).all()


@pytest.mark.parametrize("name", list(ROBUST_LOSSES))
def test_gradients_are_finite_where_student_and_target_agree(name: LossName) -> None:
    m = torch.zeros(3, requires_grad=True)
    ROBUST_LOSSES[name](m, 0.00025336).sum().backward()
    assert m.grad is not None
    assert torch.isfinite(m.grad).all()


def test_an_outlier_grows_logarithmically_linearly_or_saturates() -> None:
    residuals = torch.tensor([1e3, 1e4], dtype=torch.float64)  # far beyond c
    near, far = cauchy_loss(residuals**2, C).tolist()
    assert far - near == pytest.approx(2 * math.log(10), rel=1e-6)
    near, far = pseudo_huber_loss(residuals**2, C).tolist()
    assert far / near == pytest.approx(10, rel=1e-3)
    near, far = geman_mcclure_loss(residuals**2, C).tolist()
    assert far - near < 1e-6
    assert far < 2


def test_small_residuals_count_quadratically_in_every_robust_loss() -> None:
    m = torch.tensor(1e-10, dtype=torch.float64)
    curvature = {"cauchy": 1 / (2 * C**2), "pseudo_huber": 1 / (2 * C)}
    curvature["geman_mcclure"] = 1 / (2 * C**2)
    for name, factor in curvature.items():
        loss = ROBUST_LOSSES[name](m, C)  # type: ignore[index]
        assert loss.item() == pytest.approx(factor * m.item(), rel=1e-4)


def test_mean_square_is_one_mean_per_sample() -> None:
    difference = torch.randn(4, 3, 2, 5, generator=torch.Generator().manual_seed(0))
    expected = [np.mean(sample**2) for sample in difference.numpy()]
    np.testing.assert_allclose(mean_square(difference), expected, rtol=1e-6)


def test_constant_c_is_that_of_ict_for_the_papers_latents() -> None:
    assert constant_c(4 * 32 * 32) == pytest.approx(0.03456, abs=1e-12)
    assert constant_c(4 * 4096) == pytest.approx(2 * constant_c(4096))


@pytest.mark.parametrize(
    ("num_levels", "c"),
    [
        (20, 0.013635),
        (40, 0.0061444),
        (80, 0.0027688),
        (160, 0.0012477),
        (320, 0.00056225),
        (640, 0.00025336),
    ],
)
def test_adaptive_c_is_the_table_of_the_reference(num_levels: int, c: float) -> None:
    found = adaptive_c(num_levels, s0=10, dimension=4096)
    assert found == pytest.approx(c, rel=5e-5)
    assert found == pytest.approx(num_levels**-1.15 / math.exp(0.85), rel=1e-12)


def test_adaptive_c_of_the_first_stage_is_the_constant() -> None:
    assert adaptive_c(10, s0=10, dimension=4096) == constant_c(4096)
    assert adaptive_c(20, s0=20, dimension=64) == constant_c(64)
    assert adaptive_c(20, s0=10, dimension=64) != constant_c(64)


def test_adaptive_c_falls_by_a_power_of_two_at_each_doubling() -> None:
    values = [adaptive_c(10 * 2**k, s0=10, dimension=4096) for k in range(1, 7)]
    np.testing.assert_allclose(np.divide(values[1:], values[:-1]), 2**-1.15)


def test_weights_are_those_of_ict_and_edm() -> None:
    t = torch.tensor([0.02, 0.5, 80.0], dtype=torch.float64)
    r = torch.tensor([0.002, 0.3, 60.0], dtype=torch.float64)
    np.testing.assert_allclose(consistency_weights(t, r), 1 / (t.numpy() - r.numpy()))
    sigma = t.numpy()
    np.testing.assert_allclose(  # EDM, table 1
        diffusion_weights(t, sigma_data=0.5),
        (sigma**2 + 0.5**2) / (sigma * 0.5) ** 2,
    )
