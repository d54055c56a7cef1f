"""Improved precision and recall of generated images, given features (Kynkaanniemi et al. 2019).

A set of images stands for its manifold: the union of balls around its features, each as wide as
the way to the k-th nearest neighbour (equation 1). Precision is the share of generated images in
the manifold of the real ones, recall the share of real images in that of the generated ones
(equation 2). arXiv 1904.06991; its authors use k = 3 and as many images of both kinds.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class PrecisionRecall(NamedTuple):
    """Quality and variety of generated images, both in [0, 1], more being better."""

    precision: float
    recall: float


def precision_recall(
    real: Tensor, generated: Tensor, *, k: int, block_size: int = 1024
) -> PrecisionRecall:
    """Return the precision and the recall of generated images.

    Args:
        real: Features of real images, ``(N, D)``.
        generated: Features of generated images, ``(M, D)``.
        k: Which nearest neighbour gives the radius, itself not counted.
        block_size: Distances are computed for so many images against as many: memory does not
            grow with the product N M.

    Raises:
        ValueError: A set has fewer than k + 1 images, so none has a k-th neighbour.
    """
    for name, features in (("real", real), ("generated", generated)):
        if len(features) <= k:
            raise ValueError(
                f"precision and recall with k={k} need at least {k + 1} {name} images, "
                f"got {len(features)}"
            )
    real, generated = real.double(), generated.double()
    return PrecisionRecall(
        precision=_share_inside(generated, real, k, block_size),
        recall=_share_inside(real, generated, k, block_size),
    )


def _share_inside(points: Tensor, centres: Tensor, k: int, block_size: int) -> float:
    """Return the share of ``points``, ``(N, D)``, in the manifold of ``centres``, ``(M, D)``."""
    squared_radii = _squared_radii(centres, k, block_size)
    num_inside = 0
    for some in points.split(block_size):
        inside = torch.zeros(len(some), dtype=torch.bool, device=some.device)
        balls = zip(
            centres.split(block_size), squared_radii.split(block_size), strict=True
        )
        for centre, limit in balls:
            inside |= (_squared_distances(some, centre) <= limit).any(1)
        num_inside += int(inside.sum())
    return num_inside / len(points)


def _squared_radii(centres: Tensor, k: int, block_size: int) -> Tensor:
    """Return the squared distance of each centre to its k-th nearest neighbour, ``(M,)``."""
    radii = []
    for some in centres.split(block_size):
        # the nearest of all is the centre itself
        nearest = centres.new_full((len(some), k + 1), torch.inf)
        for others in centres.split(block_size):
            known = torch.cat([nearest, _squared_distances(some, others)], dim=1)
            nearest = known.topk(k + 1, largest=False).values
        radii.append(nearest.amax(1))
    return torch.cat(radii)


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return |a_i - b_j|^2, ``(N, M)``, of float64 features; exactly 0 where they are the same.

    |a|^2 + |b|^2 - 2 a . b is a matrix product and so many times faster than the differences.
    What its rounding can leave of nothing, 2 D eps (|a|^2 + |b|^2) at most, is taken for nothing:
    copies of an image are in a ball of radius 0.
    """
    sums = a.square().sum(1)[:, None] + b.square().sum(1)
    squared = torch.addmm(sums, a, b.T, alpha=-2)
    rounding = 4 * a.shape[1] * torch.finfo(a.dtype).eps
    return squared.where(squared > rounding * sums, 0)
