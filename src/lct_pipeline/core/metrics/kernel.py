"""Kernel distance of two sets of images, given their features, and its standard error.

Sources: Binkowski et al. 2018 (arXiv 1801.01401): the unbiased squared MMD under the cubic
polynomial kernel. Its variance is that of a two-sample U-statistic (Hoeffding 1948), each term of
it estimated without bias in the way of Sutherland & Deka 2019 (arXiv 1906.02104), here for sets
of different sizes.
"""

from __future__ import annotations

from itertools import combinations_with_replacement, product
from typing import NamedTuple

import torch
from torch import Tensor


class KernelDistance(NamedTuple):
    """The squared MMD, which may be below zero, and its standard error."""

    value: float
    standard_error: float


class _PairSums(NamedTuple):
    """Sums of a kernel over pairs: for each image ``(N,)`` and ``(M,)``, and of all squares."""

    by_x: Tensor
    by_y: Tensor
    squares: Tensor


def kernel_distance(x: Tensor, y: Tensor, *, block_size: int = 1024) -> KernelDistance:
    """Return the unbiased squared MMD under k(a, b) = (a . b / D + 1)^3.

    Args:
        x: Features of one set, ``(N, D)``, N >= 2.
        y: Features of the other, ``(M, D)``, M >= 2.
        block_size: The kernel is computed for so many images against as many: memory does not
            grow with the product N M.

    Returns:
        Value and standard error; the latter is nan with fewer than 4 images of a kind, which do
        not tell it.
    """
    x, y = x.double(), y.double()
    within_x = _sums_within(x, block_size)
    within_y = _sums_within(y, block_size)
    between = _sums_between(x, y, block_size)
    value = _mean_within(within_x) + _mean_within(within_y)
    value -= 2 * between.by_x.sum() / (len(x) * len(y))
    variance = _variance(within_x, within_y, between)
    return KernelDistance(value.item(), variance**0.5)


def _mean_within(sums: _PairSums) -> Tensor:
    num_images = len(sums.by_x)
    return sums.by_x.sum() / (num_images * (num_images - 1))


def _variance(xx: _PairSums, yy: _PairSums, xy: _PairSums) -> float:
    """Return the variance of the unbiased squared MMD.

    With f(x) = E k(x, x') - E k(x, y), g(y) likewise, and k~ a kernel less its projections
    on one image, k~(x, y) = k(x, y) - E_y k - E_x k + E k, it is exactly

        4/N Var f + 4/M Var g + 2/(N (N-1)) E k~(x, x')^2 + 2/(M (M-1)) E k~(y, y')^2
            + 4/(N M) E k~(x, y)^2.

    The first two terms vanish where both distributions are the same. Their estimate may then be
    below 0 and counts as 0: the error is never less than that of equal distributions, which makes
    it a tenth or so too large where they are.
    """
    N, M = xy.by_x.numel(), xy.by_y.numel()
    if min(N, M) < 4:
        return float("nan")
    yx = _PairSums(xy.by_y, xy.by_x, xy.squares)
    of_one = 4 / N * _witness_variance(xx, xy) + 4 / M * _witness_variance(yy, yx)
    of_two = 4 / (N * M) * _degenerate_between(xy)
    of_two += 2 / (N * (N - 1)) * _degenerate_within(xx)
    of_two += 2 / (M * (M - 1)) * _degenerate_within(yy)
    return max(0.0, of_one.item()) + max(0.0, of_two.item())


# Each of the following is a mean over tuples of different images: products of expectations, such
# as E k(x, x') k(x, x''), are then without bias. The sums over tuples follow from row sums r of
# k(x, x') and s of k(x, y), and from sums of squares, by taking away tuples with an image twice.


def _witness_variance(xx: _PairSums, xy: _PairSums) -> Tensor:
    """Return the variance of f(x) = E k(x, x') - E k(x, y)."""
    r, s, N, M = xx.by_x, xy.by_x, xy.by_x.numel(), xy.by_y.numel()
    rs = r.dot(s)
    of_both = rs / (N * (N - 1) * M)
    of_means = (r.sum() * s.sum() - 2 * rs) / (N * (N - 1) * (N - 2) * M)
    variance = _row_product(xx) - _squared_mean_within(xx)
    variance += _row_product_between(xy) - _squared_mean_between(xy)
    return variance - 2 * (of_both - of_means)


def _degenerate_within(xx: _PairSums) -> Tensor:
    """Return E k~(x, x')^2."""
    N = len(xx.by_x)
    mean_square = xx.squares / (N * (N - 1))
    return mean_square - 2 * _row_product(xx) + _squared_mean_within(xx)


def _degenerate_between(xy: _PairSums) -> Tensor:
    """Return E k~(x, y)^2."""
    yx = _PairSums(xy.by_y, xy.by_x, xy.squares)
    rows = _row_product_between(xy) + _row_product_between(yx)
    mean_square = xy.squares / (len(xy.by_x) * len(xy.by_y))
    return mean_square - rows + _squared_mean_between(xy)


def _row_product(xx: _PairSums) -> Tensor:
    """Return E k(x, x') k(x, x'')."""
    N = len(xx.by_x)
    return (xx.by_x.dot(xx.by_x) - xx.squares) / (N * (N - 1) * (N - 2))


def _squared_mean_within(xx: _PairSums) -> Tensor:
    """Return (E k(x, x'))^2."""
    r, N = xx.by_x, len(xx.by_x)
    total = r.sum().square() - 4 * r.dot(r) + 2 * xx.squares
    return total / (N * (N - 1) * (N - 2) * (N - 3))


def _row_product_between(xy: _PairSums) -> Tensor:
    """Return E k(x, y) k(x, y')."""
    N, M = len(xy.by_x), len(xy.by_y)
    return (xy.by_x.dot(xy.by_x) - xy.squares) / (N * M * (M - 1))


def _squared_mean_between(xy: _PairSums) -> Tensor:
    """Return (E k(x, y))^2."""
    s, t = xy.by_x, xy.by_y
    total = s.sum().square() - s.dot(s) - t.dot(t) + xy.squares
    return total / (len(s) * (len(s) - 1) * len(t) * (len(t) - 1))


def _sums_within(x: Tensor, block_size: int) -> _PairSums:
    """Return the sums over pairs of different images of ``(N, D)``; both orders count."""
    sums, squares = x.new_zeros(len(x)), x.new_zeros(())
    places = torch.arange(len(x)).split(block_size)
    for rows, columns in combinations_with_replacement(places, 2):
        kernel = _cubic(x[rows] @ x[columns].T, x.shape[1])
        if rows is columns:
            kernel.fill_diagonal_(0)
        else:
            sums[columns] += kernel.sum(0)
        sums[rows] += kernel.sum(1)
        squares += (1 if rows is columns else 2) * kernel.square().sum()
    return _PairSums(sums, sums, squares)


def _sums_between(x: Tensor, y: Tensor, block_size: int) -> _PairSums:
    """Return the sums over all pairs of ``(N, D)`` and ``(M, D)``."""
    sums = _PairSums(x.new_zeros(len(x)), x.new_zeros(len(y)), x.new_zeros(()))
    places = product(
        torch.arange(len(x)).split(block_size), torch.arange(len(y)).split(block_size)
    )
    for rows, columns in places:
        kernel = _cubic(x[rows] @ y[columns].T, x.shape[1])
        sums.by_x[rows] += kernel.sum(1)
        sums.by_y[columns] += kernel.sum(0)
        sums.squares.add_(kernel.square().sum())
    return sums


def _cubic(products: Tensor, num_features: int) -> Tensor:
    """Return the kernel of scalar products of features less 1, which no difference has in it."""
    p = products / num_features
    return ((p + 3) * p + 3) * p
