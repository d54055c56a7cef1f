"""Kernel distance of two sets of images, given their features, its error and its derivative.

Sources: Binkowski et al. 2018 (arXiv 1801.01401): the unbiased squared MMD under the cubic
polynomial kernel. What they, torch-fidelity and others publish behind a "±" is the standard
deviation over 100 subsets of 1,000 images of each kind: how much the distance of so few varies. The
error of the distance of all images is the jackknife's: of what it is without each one of them
(Arvesen 1969, for two samples).
"""

from __future__ import annotations

from itertools import combinations_with_replacement, product
from typing import NamedTuple

import torch
from torch import Tensor

from lct_pipeline.core.randomness import derived_generator

NUM_SUBSETS, SUBSET_SIZE = 100, 1000  # of Binkowski et al., and of torch-fidelity


class KernelDistance(NamedTuple):
    """The squared MMD, which may be below zero, its standard error, and that over subsets."""

    value: float
    standard_error: float
    subset_std: float


def kernel_distance(
    x: Tensor,
    y: Tensor,
    *,
    subset_size: int = SUBSET_SIZE,
    seed: int = 0,
    block_size: int = 1024,
) -> KernelDistance:
    """Return the unbiased squared MMD under k(a, b) = (a . b / D + 1)^3.

    Args:
        x: Features of one set, ``(N, D)``, N >= 2.
        y: Features of the other, ``(M, D)``, M >= 2.
        subset_size: Images of each kind in a subset, >= 2.
        seed: Seed of the subsets.
        block_size: The kernel is computed for so many images against as many: memory does not
            grow with the product N M.

    Returns:
        Value of all images; its standard error, nan with fewer than 3 images of a kind; and the
        standard deviation (divided by the number) over 100 subsets, drawn without replacement, nan
        unless there are as many images of both kinds and more of one. Where both distributions are
        the same the error is too large by up to the root of 2: a jackknife errs upwards (Efron &
        Stein 1981).
    """
    x, y = x.double(), y.double()
    is_known = min(len(x), len(y)) >= subset_size < max(len(x), len(y))
    num_subsets = NUM_SUBSETS if is_known else 0
    of_x = _subsets(x, num_subsets, subset_size, derived_generator(seed, "subsets", 0))
    of_y = _subsets(y, num_subsets, subset_size, derived_generator(seed, "subsets", 1))
    within_x, parts_x = _sums_within(x, of_x, block_size)
    within_y, parts_y = _sums_within(y, of_y, block_size)
    by_x, by_y, parts = _sums_between(x, y, of_x, of_y, block_size)
    value = _mean_within(within_x) + _mean_within(within_y)
    value -= 2 * by_x.sum() / (len(x) * len(y))
    variance = _jackknife(within_x, by_x, len(y)) + _jackknife(within_y, by_y, len(x))
    of_subsets = (parts_x + parts_y) / (subset_size * (subset_size - 1))
    of_subsets -= 2 * parts / subset_size**2
    subset_std = of_subsets.std(correction=0).item() if is_known else float("nan")
    return KernelDistance(value.item(), variance**0.5, subset_std)


def _subsets(x: Tensor, num: int, size: int, generator: torch.Generator) -> Tensor:
    """Return which images of ``(N, D)`` are in which subset, 1 or 0, ``(N, num)``."""
    chosen = x.new_zeros(len(x), num)
    for subset in chosen.T:
        subset[torch.randperm(len(x), generator=generator)[:size]] = 1
    return chosen


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


def _sums_within(x: Tensor, subsets: Tensor, block_size: int) -> tuple[Tensor, Tensor]:
    """Return the sum of the kernel of each image of ``(N, D)`` with the others, and by subset."""
    sums, parts = x.new_zeros(len(x)), x.new_zeros(subsets.shape[1])
    places = torch.arange(len(x)).split(block_size)
    for rows, columns in combinations_with_replacement(places, 2):
        kernel = _cubic(x[rows] @ x[columns].T, x.shape[1])
        if rows is columns:
            kernel.fill_diagonal_(0)
        else:
            sums[columns] += kernel.sum(0)
        sums[rows] += kernel.sum(1)
        of_pairs = (subsets[rows] * (kernel @ subsets[columns])).sum(0)
        parts += of_pairs if rows is columns else 2 * of_pairs
    return sums, parts


def _sums_between(
    x: Tensor, y: Tensor, of_x: Tensor, of_y: Tensor, block_size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return sums over all pairs of ``(N, D)`` and ``(M, D)``, by image of either, by subset."""
    by_x, by_y = x.new_zeros(len(x)), x.new_zeros(len(y))
    parts = x.new_zeros(of_x.shape[1])
    places = (torch.arange(len(z)).split(block_size) for z in (x, y))
    for rows, columns in product(*places):
        kernel = _cubic(x[rows] @ y[columns].T, x.shape[1])
        by_x[rows] += kernel.sum(1)
        by_y[columns] += kernel.sum(0)
        parts += (of_x[rows] * (kernel @ of_y[columns])).sum(0)
    return by_x, by_y, parts


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
