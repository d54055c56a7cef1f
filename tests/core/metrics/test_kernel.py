from __future__ import annotations

from itertools import permutations, product

import cleanfid.fid
import numpy as np
import pytest
import torch
from torch import Tensor

from lct_pipeline.core.metrics import kernel as module
from lct_pipeline.core.metrics.kernel import kernel_distance


def features(num: int, width: int = 3, seed: int = 0, shift: float = 0.0) -> Tensor:
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(7).normal(size=(width, width))
    return torch.from_numpy(rng.normal(size=(num, width)) @ mixing + shift)


def k(a: Tensor, b: Tensor) -> float:
    return (float(a @ b) / len(a) + 1) ** 3


def kernels(x: Tensor, y: Tensor) -> np.ndarray:
    return np.array([[k(a, b) for b in y] for a in x])


def test_the_value_is_the_unbiased_sum_over_pairs() -> None:
    x, y = features(7), features(5, seed=1)
    within_x = np.mean([k(x[i], x[j]) for i, j in permutations(range(7), 2)])
    within_y = np.mean([k(y[i], y[j]) for i, j in permutations(range(5), 2)])
    between = np.mean([k(a, b) for a in x for b in y])
    expected = within_x + within_y - 2 * between
    whole = kernel_distance(x, y)
    for block_size in (1, 3, 5, 7, 100):
        found = kernel_distance(x, y, block_size=block_size)
        assert found.value == pytest.approx(expected, rel=1e-10)
        assert found.standard_error == pytest.approx(whole.standard_error, rel=1e-10)


def test_no_more_of_the_kernel_than_a_block_is_computed_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    largest = []
    cubic = module._cubic

    def watched(products: Tensor, num_features: int) -> Tensor:
        largest.append(products.numel())
        return cubic(products, num_features)

    monkeypatch.setattr(module, "_cubic", watched)
    kernel_distance(features(50), features(40, seed=1), block_size=8)
    assert max(largest) == 8 * 8


def test_one_subset_of_all_images_is_that_of_clean_fid() -> None:
    x, y = features(40), features(40, seed=1)
    np.random.seed(0)  # clean-fid draws its subsets from the global generator
    theirs = cleanfid.fid.kernel_distance(
        x.numpy(), y.numpy(), num_subsets=1, max_subset_size=40
    )
    assert kernel_distance(x, y).value == pytest.approx(theirs, rel=1e-9)


def test_equal_distributions_scatter_around_zero() -> None:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(40, 2, 30, 4)))
    equal = np.array([kernel_distance(a, b).value for a, b in x])
    assert equal.min() < 0 < equal.max()
    assert abs(equal.mean()) < 4 * equal.std() / len(equal) ** 0.5
    assert kernel_distance(x[0, 0], x[0, 1] + 1).value > equal.max()


def mean_of_products(factors: list[tuple[np.ndarray, str]], sizes: dict[str, int]):
    """Return the mean of a product of kernels over all choices of different images.

    Args:
        factors: Kernels, each with the letters of its row and its column.
        sizes: Numbers of images of either kind; small letters choose x, capitals y.
    """
    letters = sorted({letter for _, names in factors for letter in names})
    small = [name for name in letters if name.islower()]
    large = [name for name in letters if name.isupper()]
    values = []
    for of_x, of_y in product(
        permutations(range(sizes["x"]), len(small)),
        permutations(range(sizes["y"]), len(large)),
    ):
        at = dict(zip(small + large, of_x + of_y, strict=True))
        values.append(np.prod([K[at[row], at[column]] for K, (row, column) in factors]))
    return np.mean(values)


def plain_standard_error(x: Tensor, y: Tensor) -> float:
    """Return the root of the variance, each expectation an average over tuples, one by one."""
    N, M = len(x), len(y)
    xx, yy, xy = kernels(x, x), kernels(y, y), kernels(x, y)

    def mean(*factors: tuple[np.ndarray, str]) -> float:
        return mean_of_products(list(factors), {"x": N, "y": M})

    f = (
        mean((xx, "ab"), (xx, "ac"))
        - mean((xx, "ab"), (xx, "cd"))
        + mean((xy, "aB"), (xy, "aC"))
        - mean((xy, "aB"), (xy, "cD"))
        - 2 * mean((xx, "ab"), (xy, "aC"))
        + 2 * mean((xx, "ab"), (xy, "cD"))
    )
    g = (
        mean((yy, "AB"), (yy, "AC"))
        - mean((yy, "AB"), (yy, "CD"))
        + mean((xy, "aB"), (xy, "cB"))
        - mean((xy, "aB"), (xy, "cD"))
        - 2 * mean((yy, "AB"), (xy, "cA"))
        + 2 * mean((yy, "AB"), (xy, "cD"))
    )
    in_x = mean((xx, "ab"), (xx, "ab")) - 2 * mean((xx, "ab"), (xx, "ac"))
    in_x += mean((xx, "ab"), (xx, "cd"))
    in_y = mean((yy, "AB"), (yy, "AB")) - 2 * mean((yy, "AB"), (yy, "AC"))
    in_y += mean((yy, "AB"), (yy, "CD"))
    across = mean((xy, "aB"), (xy, "aB")) - mean((xy, "aB"), (xy, "aC"))
    across += mean((xy, "aB"), (xy, "cD")) - mean((xy, "aB"), (xy, "cB"))
    of_one = 4 / N * f + 4 / M * g
    of_two = 2 / (N * (N - 1)) * in_x + 2 / (M * (M - 1)) * in_y
    of_two += 4 / (N * M) * across
    assert of_one > 0.1 * of_two > 0
    return (of_one + of_two) ** 0.5


@pytest.mark.parametrize(("num", "other"), [(6, 5), (4, 7)])
def test_the_standard_error_is_that_of_averages_over_tuples(
    num: int, other: int
) -> None:
    x, y = features(num), 0.5 * features(other, seed=1, shift=2.0)
    found = kernel_distance(x, y).standard_error
    assert found == pytest.approx(plain_standard_error(x, y), rel=1e-8)


@pytest.mark.parametrize(("num", "other"), [(40, 40), (25, 90)])
@pytest.mark.parametrize(("shift", "largest"), [(0.0, 1.2), (0.1, 1.2), (0.6, 1.1)])
def test_the_standard_error_is_the_spread_over_new_sets(
    shift: float, largest: float, num: int, other: int
) -> None:
    """Of different distributions, and of equal ones, where it is of the second order alone."""
    rng = np.random.default_rng(0)
    found = [
        kernel_distance(
            torch.from_numpy(rng.normal(size=(num, 64))),
            torch.from_numpy(rng.normal(size=(other, 64)) + shift),
        )
        for _ in range(400)
    ]
    values, errors = np.array(found).T
    ratio = np.mean(errors**2) ** 0.5 / values.std()  # known to 4 %
    assert 0.9 < ratio < largest


def test_a_negative_estimate_makes_no_error_of_equal_distributions() -> None:
    """Without a bound from below, one in seven of these variances would be below 0."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(60, 2, 25, 4)))
    errors = np.array([kernel_distance(a, b).standard_error for a, b in x])
    assert errors.dtype == np.float64
    assert errors.min() > 0.3 * errors.mean()


def test_more_images_of_one_kind_leave_the_error_of_the_other() -> None:
    """4/N Var f remains, here with f = -2 k(., 0) up to a constant: y is one point."""
    x = features(50, seed=3)
    y = torch.zeros(400, 3, dtype=torch.float64)
    mean_kernel = kernels(x, x).sum(1) - np.diag(kernels(x, x))
    witness = mean_kernel / 49 - 1  # k(x, 0) = 1
    found = kernel_distance(x, y).standard_error
    assert found == pytest.approx((4 / 50 * witness.var()) ** 0.5, rel=0.2)


@pytest.mark.parametrize(("num", "other"), [(3, 50), (50, 2)])
def test_few_images_do_not_tell_the_error(num: int, other: int) -> None:
    found = kernel_distance(features(num), features(other, seed=1))
    assert np.isfinite(found.value)
    assert np.isnan(found.standard_error)


def test_identical_images_have_no_error() -> None:
    x = torch.ones(9, 5)
    assert kernel_distance(x, x) == (0.0, 0.0)
