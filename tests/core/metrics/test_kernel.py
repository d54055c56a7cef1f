from __future__ import annotations

from itertools import permutations

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
    values, errors = np.array(found).T
    ratio = np.mean(errors**2) ** 0.5 / values.std()  # known to 4 %
    assert 0.9 < ratio < largest


@pytest.mark.parametrize(("num", "other"), [(2, 50), (50, 2)])
def test_few_images_do_not_tell_the_error(num: int, other: int) -> None:
    found = kernel_distance(features(num), features(other, seed=1))
    assert np.isfinite(found.value)
    assert np.isnan(found.standard_error)


def test_identical_images_have_no_error() -> None:
    x = torch.ones(9, 5)
    assert kernel_distance(x, x) == (0.0, 0.0)
