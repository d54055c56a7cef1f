"""Nearest neighbours of images by their features: has a model copied its training images?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor


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
