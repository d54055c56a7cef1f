from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from lct_pipeline.core.metrics.frechet import (
    FrechetReference,
    feature_statistics,
    frechet_gradient,
)
from lct_pipeline.core.metrics.kernel import kernel_distance, kernel_gradient

WIDTH = 6
MANY, FEW = 20, 4  # images, more than features and fewer


def features(num: int, seed: int = 0, shift: float = 0.0) -> Tensor:
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(WIDTH, WIDTH))
    return torch.from_numpy(rng.normal(size=(num, WIDTH)) @ mixing + shift)


def reference(num: int = 50) -> FrechetReference:
    return FrechetReference(feature_statistics(features(num, seed=1)))


def gradient_by_autograd(formula: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(formula(x), x)
    return gradient


def plain_frechet(x: Tensor, real: FrechetReference) -> Tensor:
    """Return the distance by the smaller of two products, which has full rank.

    Rows of the Helmert matrix centre the features: N of them become N - 1 without their mean.
    """
    num, statistics = len(x), real.statistics
    centred = torch.from_numpy(scipy.linalg.helmert(num)) @ x / (num - 1) ** 0.5
    if num > WIDTH:
        L = torch.linalg.cholesky(statistics.cov)
        product = L.T @ centred.T @ centred @ L
    else:
        product = centred @ statistics.cov @ centred.T
    cross = torch.linalg.eigvalsh(product).sqrt().sum()
    shift = (x.mean(0) - statistics.mu).square().sum()
    return shift + centred.square().sum() + statistics.cov.trace() - 2 * cross


def plain_kernel(x: Tensor, y: Tensor) -> Tensor:
    """Return the unbiased squared MMD, pair by pair."""

    def mean(a: Tensor, b: Tensor, *, same: bool) -> Tensor:
        pairs = [
            (i, j) for i in range(len(a)) for j in range(len(b)) if i != j or not same
        ]
        return torch.stack([(a[i] @ b[j] / WIDTH + 1) ** 3 for i, j in pairs]).mean()

    within = mean(x, x, same=True) + mean(y, y, same=True)
    return within - 2 * mean(x, y, same=False)


@pytest.mark.parametrize("num", [MANY, FEW, WIDTH, WIDTH + 1, 2])
def test_the_frechet_gradient_is_that_of_autograd(num: int) -> None:
    x, real = features(num, seed=2, shift=0.5), reference()
    expected = gradient_by_autograd(lambda x: plain_frechet(x, real), x)
    found, distance = frechet_gradient(real, x), real.distance_of_features(x)
    assert plain_frechet(x, real).item() == pytest.approx(distance, rel=1e-10)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


def test_the_gradient_to_a_singular_reference_is_finite_and_right() -> None:
    few = features(3, seed=1)
    real = FrechetReference(feature_statistics(few))
    root = torch.from_numpy(scipy.linalg.helmert(3)) @ few / 2**0.5  # root^T root = C_r

    def distance(x: Tensor) -> Tensor:
        cov = x.T.cov()
        cross = torch.linalg.eigvalsh(root @ cov @ root.T).sqrt().sum()
        shift = (x.mean(0) - real.statistics.mu).square().sum()
        return shift + cov.trace() - 2 * cross

    x = features(MANY, seed=2)
    found = frechet_gradient(real, x)
    torch.testing.assert_close(found, gradient_by_autograd(distance, x))


def test_features_without_variance_in_some_direction_have_a_finite_gradient() -> None:
    x = features(MANY, seed=2)
    x[:, 3] = 0  # as a rectified feature that no image raises
    assert frechet_gradient(reference(), x).isfinite().all()


def test_the_frechet_gradient_is_zero_at_the_statistics_of_the_reference() -> None:
    x = features(MANY, seed=2)
    real = FrechetReference(feature_statistics(x))
    assert frechet_gradient(real, x).abs().max() < 1e-9
    assert frechet_gradient(real, x.flip(1)).abs().max() > 1e-2


@pytest.mark.parametrize(("num", "num_real"), [(7, 5), (2, 9)])
def test_the_kernel_gradient_is_that_of_autograd(num: int, num_real: int) -> None:
    x, y = features(num, seed=2), features(num_real)
    expected = gradient_by_autograd(lambda x: plain_kernel(x, y), x)
    found = kernel_gradient(x, y)
    distance = kernel_distance(x, y).value
    assert plain_kernel(x, y).item() == pytest.approx(distance, rel=1e-10)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("num", [MANY, FEW])
def test_float32_features_have_the_gradient_of_their_values(num: int) -> None:
    x, y = features(num, seed=2).float(), features(9)
    real = reference()
    assert torch.equal(frechet_gradient(real, x), frechet_gradient(real, x.double()))
    assert torch.equal(kernel_gradient(x, y), kernel_gradient(x.double(), y))
