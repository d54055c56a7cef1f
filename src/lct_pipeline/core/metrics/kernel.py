"""Kernel distance of two sets of images, given their features, its error and its derivative.

Sources: Binkowski et al. 2018 (arXiv 1801.01401): the unbiased squared MMD under the cubic
polynomial kernel. Its error is the jackknife's: of what it is without each one of the images
(Arvesen 1969, for two samples).
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


def kernel_distance(x: Tensor, y: Tensor, *, block_size: int = 1024) -> KernelDistance:
    """Return the unbiased squared MMD under k(a, b) = (a . b / D + 1)^3.

    Args:
        x: Features of one set, ``(N, D)``, N >= 2.
        y: Features of the other, ``(M, D)``, M >= 2.
        block_size: The kernel is computed for so many images against as many: memory does not
            grow with the product N M.

    Returns:
        Value and standard error; the latter is nan with fewer than 3 images of a kind. Where both
        distributions are the same it is too large by up to the root of 2: a jackknife errs upwards
        (Efron & Stein 1981).
    """
    x, y = x.double(), y.double()
    within_x, within_y = _sums_within(x, block_size), _sums_within(y, block_size)
    by_x, by_y = _sums_between(x, y, block_size)
    value = _mean_within(within_x) + _mean_within(within_y)
    value -= 2 * by_x.sum() / (len(x) * len(y))
    variance = _jackknife(within_x, by_x, len(y)) + _jackknife(within_y, by_y, len(x))
    return KernelDistance(value.item(), variance**0.5)


def _mean_within(sums: Tensor) -> Tensor:
    return sums.sum() / (len(sums) * (len(sums) - 1))


def _jackknife(within: Tensor, between: Tensor, num_others: int) -> float:
    """Return the part of the variance that the images of one kind make.

    Args:
        within: Sum of the kernel of each of them with the rest of its kind, ``(N,)``.
        between: That with all images of the other kind, ``(N,)``.
        num_others: How many these are.
    """
    N = len(within)
    if N < 3:
        return float("nan")
    left_out = (within.sum() - 2 * within) / ((N - 1) * (N - 2))
    left_out -= 2 * (between.sum() - between) / ((N - 1) * num_others)
    return (N - 1) / N * (left_out - left_out.mean()).square().sum().item()


def _sums_within(x: Tensor, block_size: int) -> Tensor:
    """Return the sum of the kernel of each image with the others, ``(N,)``, of ``(N, D)``."""
    sums = x.new_zeros(len(x))
    places = torch.arange(len(x)).split(block_size)
    for rows, columns in combinations_with_replacement(places, 2):
        kernel = _cubic(x[rows] @ x[columns].T, x.shape[1])
        if rows is columns:
            kernel.fill_diagonal_(0)
        else:
            sums[columns] += kernel.sum(0)
        sums[rows] += kernel.sum(1)
    return sums


def _sums_between(x: Tensor, y: Tensor, block_size: int) -> tuple[Tensor, Tensor]:
    """Return the sums over all pairs of ``(N, D)`` and ``(M, D)``, by image of either set."""
    by_x, by_y = x.new_zeros(len(x)), x.new_zeros(len(y))
    places = (torch.arange(len(z)).split(block_size) for z in (x, y))
    for rows, columns in product(*places):
        kernel = _cubic(x[rows] @ y[columns].T, x.shape[1])
        by_x[rows] += kernel.sum(1)
        by_y[columns] += kernel.sum(0)
    return by_x, by_y


def _cubic(products: Tensor, num_features: int) -> Tensor:
    """Return the kernel of scalar products of features less 1, which no difference has in it."""
    p = products / num_features
    return ((p + 3) * p + 3) * p


def kernel_gradient(features: Tensor, reference: Tensor) -> Tensor:
    """Return the derivative of the kernel distance by each feature, ``(N, D)``, float64.

    The derivative of k(a, b) = (a . b / D + 1)^3 by a is 3 (a . b / D + 1)^2 b / D.

    Args:
        features: Those of generated images, ``(N, D)``, N >= 2.
        reference: Those of real images, ``(M, D)``.
    """
    x, y = features.double().cpu(), reference.double().cpu()
    num_images, num_features = x.shape

    def slope(a: Tensor, b: Tensor) -> Tensor:
        return 3 / num_features * (a @ b.T / num_features + 1) ** 2

    within = slope(x, x).fill_diagonal_(0) @ x / (num_images * (num_images - 1))
    between = slope(x, y) @ y / (num_images * len(y))
    return 2 * within - 2 * between
