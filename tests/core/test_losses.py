from __future__ import annotations

import math
from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from lct_pipeline.core.losses import (
    ROBUST_LOSSES,
    LossName,
    Residual,
    cauchy_loss,
    consistency_weights,
    diffusion_weights,
    geman_mcclure_loss,
    mean_square,
    pseudo_huber_loss,
    squared_residual,
)

M = torch.logspace(-6, 6, 25, dtype=torch.float64)
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


def loss_of(name: LossName, residual: Residual, d: Tensor, c: float) -> Tensor:
    return ROBUST_LOSSES[name](squared_residual(d, residual), c)


def test_every_loss_has_a_name_and_a_reference() -> None:
    assert set(ROBUST_LOSSES) == set(NAMES) == set(REFERENCE)


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
    found = loss_of(name, residual, d, c)
    assert found.shape == (16,)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("c", SCALES)
@pytest.mark.parametrize("name", NAMES)
def test_losses_of_a_residual_are_those_of_the_reference(
    name: LossName, c: float
) -> None:
    expected = [REFERENCE[name](m, c) for m in M.tolist()]
    np.testing.assert_allclose(ROBUST_LOSSES[name](M, c), expected, rtol=1e-8)


@pytest.mark.parametrize("shape", [(3, 2, 2), (4, 32, 32)])
def test_ict_is_the_pseudo_huber_of_the_norm_with_its_constant(
    shape: tuple[int, int, int],
) -> None:
    generator = torch.Generator().manual_seed(1)
    d = 0.01 * torch.randn(6, *shape, generator=generator, dtype=torch.float64)
    c = 0.00054 * math.sqrt(math.prod(shape))
    norms = np.linalg.norm(d.flatten(1).numpy(), axis=1)
    expected = np.sqrt(norms**2 + c**2) - c
    np.testing.assert_allclose(loss_of("pseudo_huber", "sum", d, c), expected)


@pytest.mark.parametrize("c", SCALES)
@pytest.mark.parametrize("name", NAMES)
def test_the_sum_is_the_mean_with_c_divided_by_the_root_of_the_dimension(
    name: LossName, c: float
) -> None:
    d = differences()
    dimension = d[0].numel()
    # sum = D mean: homogeneous of degree 1, 2 or 0 in (sqrt(m), c)
    factor = {"pseudo_huber": math.sqrt(dimension), "l2": dimension}.get(name, 1)
    by_mean = factor * loss_of(name, "mean", d, c / math.sqrt(dimension))
    np.testing.assert_allclose(loss_of(name, "sum", d, c), by_mean, rtol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_robust_losses_are_zero_at_zero_and_grow(name: LossName) -> None:
    rho = ROBUST_LOSSES[name]
    for c in SCALES:
        assert rho(torch.zeros(1), c).item() == 0
        assert (rho(M, c).diff() > 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_finite_where_student_and_target_agree(name: LossName) -> None:
    m = torch.zeros(3, requires_grad=True)
    ROBUST_LOSSES[name](m, 0.00025336).sum().backward()
    assert m.grad is not None
    assert torch.isfinite(m.grad).all()


@pytest.mark.parametrize("c", SCALES)
def test_gradients_are_the_derivatives_written_by_hand(c: float) -> None:
    slopes: dict[LossName, np.ndarray] = {
        "cauchy": 1 / (2 * c**2 + M.numpy()),
        "pseudo_huber": 1 / (2 * np.sqrt(M.numpy() + c**2)),
        "geman_mcclure": 8 * c**2 / (M.numpy() + 4 * c**2) ** 2,
        "l2": np.ones(len(M)),
    }
    for name, slope in slopes.items():
        m = M.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(ROBUST_LOSSES[name](m, c).sum(), m)
        # far out the slope of Geman-McClure is a difference of equal numbers
        absolute = 1e-18 if name == "geman_mcclure" else 0
        np.testing.assert_allclose(gradient, slope, rtol=1e-6, atol=absolute)


def test_an_outlier_grows_logarithmically_linearly_or_saturates() -> None:
    residuals = torch.tensor([1e3, 1e4], dtype=torch.float64)  # far beyond c
    near, far = cauchy_loss(residuals**2, C).tolist()
    assert far - near == pytest.approx(2 * math.log(10), rel=1e-6)
    near, far = pseudo_huber_loss(residuals**2, C).tolist()
    assert far / near == pytest.approx(10, rel=1e-3)
    near, far = geman_mcclure_loss(residuals**2, C).tolist()
    assert far - near < 1e-6
    assert far < 2


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


def test_mean_square_is_one_mean_per_sample() -> None:
    d = differences()
    expected = [np.mean(sample**2) for sample in d.numpy()]
    np.testing.assert_allclose(mean_square(d), expected, rtol=1e-12)


def test_weights_are_those_of_ict_and_edm() -> None:
    t = torch.tensor([0.02, 0.5, 80.0], dtype=torch.float64)
    r = torch.tensor([0.002, 0.3, 60.0], dtype=torch.float64)
    np.testing.assert_allclose(consistency_weights(t, r), 1 / (t.numpy() - r.numpy()))
    sigma = t.numpy()
    np.testing.assert_allclose(  # EDM, table 1
        diffusion_weights(t, sigma_data=0.5),
        (sigma**2 + 0.5**2) / (sigma * 0.5) ** 2,
    )
