from __future__ import annotations

from collections.abc import Iterable
from itertools import permutations, product

import cleanfid.fid
import numpy as np
import pytest
import torch
from derivatives import by_autograd
from torch import Tensor

from lct_pipeline.core.metrics import kernel as module
from lct_pipeline.core.metrics.kernel import kernel_distance, kernel_gradient


def features(num: int, width: int = 3, seed: int = 0, shift: float = 0.0) -> Tensor:
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(7).normal(size=(width, width))
    return torch.from_numpy(rng.normal(size=(num, width)) @ mixing + shift)


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


def test_the_standard_error_is_that_of_leaving_each_image_out() -> None:
    x, y = features(7), 0.5 * features(5, seed=1, shift=2.0)
    variance = 0.0
    for num in (7, 5):
        pairs = [
            (x[torch.arange(7) != n], y) if num == 7 else (x, y[torch.arange(5) != n])
            for n in range(num)
        ]
        values = np.array([kernel_distance(a, b).value for a, b in pairs])
        variance += (num - 1) * values.var()
    found = kernel_distance(x, y).standard_error
    assert found == pytest.approx(variance**0.5, rel=1e-10)


@pytest.mark.parametrize(("num", "other"), [(40, 40), (25, 90)])
@pytest.mark.parametrize(("shift", "largest"), [(0.0, 1.55), (0.1, 1.55), (0.6, 1.1)])
def test_the_standard_error_is_the_standard_deviation_over_new_sets(
    shift: float, largest: float, num: int, other: int
) -> None:
    """Of equal distributions, and nearly equal ones, it may be larger by the root of 2."""
    rng = np.random.default_rng(0)
    found = [
        kernel_distance(
            torch.from_numpy(rng.normal(size=(num, 64))),
            torch.from_numpy(rng.normal(size=(other, 64)) + shift),
        )
        for _ in range(400)
    ]
    values, errors, _ = np.array(found).T
    ratio = np.mean(errors**2) ** 0.5 / values.std()  # known to 4 %
    assert 0.9 < ratio < largest


def subsets_by_clean_fid(x: Tensor, y: Tensor, size: int, num: int) -> np.ndarray:
    """Distances of random subsets, as the literature's ± is the standard deviation of."""
    np.random.seed(3)  # clean-fid draws its subsets from the global generator
    found = [
        cleanfid.fid.kernel_distance(
            x.numpy(), y.numpy(), num_subsets=1, max_subset_size=size
        )
        for _ in range(num)
    ]
    return np.array(found)


def test_the_spread_over_subsets_is_that_of_subsets_by_clean_fid() -> None:
    x, y, size = features(120, 8), features(90, 8, seed=1, shift=0.5), 30
    found = [kernel_distance(x, y, subset_size=size, seed=n).subset_std for n in (0, 1)]
    of_subsets = subsets_by_clean_fid(x, y, size, 2000)
    # a standard deviation of 100 values is known to 7 %
    assert found == pytest.approx([of_subsets.std()] * 2, rel=0.25)
    assert found[0] != found[1]
    in_blocks = kernel_distance(x, y, subset_size=size, block_size=7)
    assert in_blocks.subset_std == pytest.approx(found[0], rel=1e-9)


@pytest.mark.parametrize(
    ("num", "other", "size"), [(30, 30, 30), (29, 40, 30), (40, 29, 30)]
)
def test_sets_that_have_one_subset_or_none_do_not_tell_the_spread(
    num: int, other: int, size: int
) -> None:
    found = kernel_distance(features(num), features(other, seed=1), subset_size=size)
    assert np.isnan(found.subset_std)
    assert np.isfinite(found.standard_error)


@pytest.mark.parametrize(("num", "other"), [(2, 50), (50, 2)])
def test_few_images_do_not_tell_the_error(num: int, other: int) -> None:
    found = kernel_distance(features(num), features(other, seed=1))
    assert np.isfinite(found.value)
    assert np.isnan(found.standard_error)


def test_identical_images_have_no_error() -> None:
    x = torch.ones(9, 5)
    assert kernel_distance(x, x)[:2] == (0.0, 0.0)


def plain_kernel(x: Tensor, y: Tensor) -> Tensor:
    """The unbiased squared MMD, pair by pair."""

    def mean(a: Tensor, b: Tensor, pairs: Iterable[tuple[int, int]]) -> Tensor:
        products = torch.stack([a[i] @ b[j] for i, j in pairs])
        return (products / x.shape[1] + 1).pow(3).mean()

    N, M = range(len(x)), range(len(y))
    within = mean(x, x, permutations(N, 2)) + mean(y, y, permutations(M, 2))
    return within - 2 * mean(x, y, product(N, M))


@pytest.mark.parametrize(("num", "other"), [(7, 5), (2, 9)])
def test_value_and_gradient_are_those_of_the_unbiased_sum_over_pairs(
    num: int, other: int
) -> None:
    x, y = features(num), features(other, seed=1)
    for block_size in (1, 3, 5, 7, 100):
        found = kernel_distance(x, y, block_size=block_size).value
        assert found == pytest.approx(plain_kernel(x, y).item(), rel=1e-10)
    gradient = kernel_gradient(x, y)
    expected = by_autograd(lambda x: plain_kernel(x, y), x)
    assert gradient.dtype == torch.float64
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-10)
