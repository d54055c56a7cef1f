"""Nearest neighbours of images by their features: good, various, or copied?

Precision, recall, density and coverage: a set of images stands for its manifold, balls around its
features, each as wide as the way to the k-th nearest neighbour in the same set (Kynkaanniemi et al.
2019, arXiv 1904.06991, equation 1). Precision is the share of generated images in a ball of a real
one, recall the share of real images in a ball of a generated one (equation 2). One outlier makes
one large ball, which lets anything in: density counts the balls of real images that a generated one
is in, coverage the share of real images with a generated one in their ball (Naeem et al. 2020,
arXiv 2002.09797, section 3). Their authors take k = 3 for the first two, k = 5 for the others, and
as many images of both kinds.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations_with_replacement, product
from typing import NamedTuple

import torch
from torch import Tensor

NEIGHBOUR = 3  # of precision and recall
NEIGHBOUR_OF_DENSITY = 5  # and of coverage


class ManifoldMetrics(NamedTuple):
    """Quality (precision, density) and variety (recall, coverage); more is better.

    All are in [0, 1] but the density, which is about 1 where both distributions are the same.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def manifold_metrics(
    real: Tensor,
    generated: Tensor,
    *,
    k: int = NEIGHBOUR,
    k_density: int = NEIGHBOUR_OF_DENSITY,
    block_size: int = 1024,
) -> ManifoldMetrics:
    """Return the precision, recall, density and coverage of generated images.

    Each distance is computed once.

    Args:
        real: Features of real images, ``(N, D)``.
        generated: Features of generated images, ``(M, D)``.
        k: Which nearest neighbour gives the radius of precision and recall, itself not counted.
        k_density: Likewise of density and coverage.
        block_size: Distances are computed for so many images against as many: memory does not
            grow with the product N M.

    Raises:
        ValueError: A set has too few images: none has a k-th neighbour.
    """
    most = max(k, k_density)
    _require_neighbours(len(real), most, "real")
    _require_neighbours(len(generated), k, "generated")
    real, generated = real.double(), generated.double()
    nearest = _nearest(real, most, block_size)
    radii, wide = nearest[:, k - 1, None], nearest[:, k_density - 1, None]
    generated_radii = _nearest(generated, k, block_size)[:, -1]
    precise, recalled = _nobody(generated), _nobody(real)
    covered, num_within = _nobody(real), 0
    for some, others in product(
        _places(real, block_size), _places(generated, block_size)
    ):
        squared = squared_feature_distances(real[some], generated[others])
        precise[others] |= (squared <= radii[some]).any(0)
        recalled[some] |= (squared <= generated_radii[others]).any(1)
        within = squared <= wide[some]
        covered[some] |= within.any(1)
        num_within += int(within.sum())
    return ManifoldMetrics(
        precision=precise.double().mean().item(),
        recall=recalled.double().mean().item(),
        density=num_within / (k_density * len(generated)),
        coverage=covered.double().mean().item(),
    )


def _require_neighbours(num_images: int, k: int, name: str) -> None:
    if num_images <= k:
        raise ValueError(
            f"balls of the neighbour k={k} need at least {k + 1} {name} images, got {num_images}"
        )


def _nobody(features: Tensor) -> Tensor:
    return torch.zeros(len(features), dtype=torch.bool, device=features.device)


def _places(features: Tensor, block_size: int) -> tuple[Tensor, ...]:
    return torch.arange(len(features), device=features.device).split(block_size)


def _nearest(features: Tensor, k: int, block_size: int) -> Tensor:
    """Return the squared distances of each image to its k nearest, ``(N, k)``, rising."""
    nearest = features.new_full((len(features), k), torch.inf)
    places = _places(features, block_size)
    for some, others in combinations_with_replacement(places, 2):
        squared = squared_feature_distances(features[some], features[others])
        if some is others:
            squared.fill_diagonal_(torch.inf)  # nobody is a neighbour of itself
        else:
            nearest[others] = _least(nearest[others], squared.T)
        nearest[some] = _least(nearest[some], squared)
    return nearest


def _least(known: Tensor, others: Tensor) -> Tensor:
    """Return the smallest of each row of both, as many as are known, rising."""
    k = known.shape[1]
    least = others.topk(min(k, others.shape[1]), largest=False).values
    return torch.cat([known, least], dim=1).sort(dim=1).values[:, :k]


class Neighbours(NamedTuple):
    """Euclidean distances ``(Q, K)``, float64, rising along a row, and places ``(Q, K)``, int64."""

    distances: Tensor
    indices: Tensor


def nearest_neighbours(
    queries: Tensor, batches: Iterable[Tensor], num_neighbours: int
) -> Neighbours:
    """Return the nearest images of a set that is never in memory as a whole.

    Args:
        queries: Features of the images whose neighbours are looked for, ``(Q, D)``.
        batches: Features of the set, ``(B, D)`` each; an index counts through all of them.
        num_neighbours: K. Of equally near images the earlier one is taken.

    Raises:
        ValueError: The set has fewer than K images.
    """
    queries = queries.double()
    squared = queries.new_empty(len(queries), 0)
    indices = torch.empty(len(queries), 0, dtype=torch.int64)
    start = 0
    for batch in batches:
        places = torch.arange(start, start + len(batch)).expand(len(queries), -1)
        squared, nearest = torch.cat(
            [squared, squared_feature_distances(queries, batch.double())], dim=1
        ).sort(dim=1, stable=True)
        indices = torch.cat([indices, places], dim=1).gather(1, nearest)
        squared, indices = squared[:, :num_neighbours], indices[:, :num_neighbours]
        start += len(batch)
    if start < num_neighbours:
        raise ValueError(
            f"{num_neighbours} nearest neighbours need as many images, got {start}"
        )
    return Neighbours(squared.sqrt(), indices)


def copy_ratios(generated: Tensor, held_out: Tensor) -> Tensor:
    """Return how near each generated image is to the training images, for a new image, ``(Q,)``.

    The distance to the nearest training image over the median of that of held-out real images,
    which nobody has copied. About 1 is as near as new images of the same kind come; far below 1
    is a copy, or nearly one; many values below 1 say that the model has memorised (the distances
    that Meehan et al. 2020, arXiv 2004.05675, test for data-copying).

    Args:
        generated: From each generated image to the nearest training image, ``(Q,)``.
        held_out: From each held-out real image to the nearest training image, ``(R,)``.

    Raises:
        ValueError: More than half of the held-out images are training images.
    """
    typical = held_out.double().quantile(0.5)
    if typical == 0:
        raise ValueError(
            "more than half of the held-out images are training images: their distance is 0"
        )
    return generated.double() / typical


def squared_feature_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return |a_i - b_j|^2, ``(N, M)``, of float64 features; exactly 0 where they are the same.

    |a|^2 + |b|^2 - 2 a . b is a matrix product and so many times faster than the differences.
    What its rounding can leave of nothing, 2 D eps (|a|^2 + |b|^2) at most, is taken for nothing:
    copies of an image are in a ball of radius 0.
    """
    sums = a.square().sum(1)[:, None] + b.square().sum(1)
    squared = torch.addmm(sums, a, b.T, alpha=-2)
    rounding = 4 * a.shape[1] * torch.finfo(a.dtype).eps
    return squared.where(squared > rounding * sums, 0)
