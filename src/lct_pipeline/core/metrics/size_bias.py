"""How much of a Frechet distance is the number of images, and what it tends to with more.

The distance of few images is too large: their covariance is that of a sample. The excess goes as
1/N, so a line over 1/N meets the distance of infinitely many images at 0 (Chong & Forsyth 2020,
arXiv 1911.07023, FID-infinity). They take random subsets of 5,000 to 50,000 features in memory, one
of each size, and fit an unweighted line. Here the groups of a size are disjoint and so independent,
which gives a standard deviation, and they are merged from blocks of moments, so that no features
are kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import NamedTuple

import numpy as np

from lct_pipeline.core.metrics.frechet import FeatureMoments, FrechetReference


class SizePoint(NamedTuple):
    """The distance of ``num_images`` images: mean and standard deviation over disjoint groups.

    Groups differ by a few images at most, of which ``num_images`` is the mean; ``std`` is nan
    where there is one group.
    """

    num_images: float
    mean: float
    std: float
    num_groups: int


class Extrapolation(NamedTuple):
    """The line distance = infinity + slope / N."""

    infinity: float
    slope: float


def distance_by_size(
    blocks: Sequence[FeatureMoments], reference: FrechetReference
) -> list[SizePoint]:
    """Return the distance at growing numbers of images: of 1, 2, 4, ... blocks, and of all.

    Args:
        blocks: Moments of independent images of one distribution, about as many in each.
        reference: What the images are compared with.
    """
    counts = [2**power for power in range((len(blocks) - 1).bit_length())]
    return [_point(blocks, count, reference) for count in [*counts, len(blocks)]]


def _point(
    blocks: Sequence[FeatureMoments], count: int, reference: FrechetReference
) -> SizePoint:
    """Return the distance of as many groups of ``count`` neighbouring blocks as there are."""
    sizes, distances = [], []
    for start in range(0, len(blocks) - count + 1, count):
        group = FeatureMoments.merged(blocks[start : start + count]).statistics()
        sizes.append(group.num_images)
        distances.append(reference.distance(group))
    return SizePoint(
        num_images=fmean(sizes),
        mean=fmean(distances),
        std=stdev(distances) if len(distances) > 1 else math.nan,
        num_groups=len(distances),
    )


def extrapolate(points: Sequence[SizePoint]) -> Extrapolation:
    """Return the line through the distances over 1/N, by weighted least squares.

    What the line leaves out begins with a term in 1/N^2: a point is off by that much, and so has
    the weight N^4. Spread decides little: the groups of each size are made of the same images. A
    block should have several times as many images as there are features that matter; of smaller
    blocks the line bends, and meets 0 too low.

    Raises:
        ValueError: All points have the same number of images.
    """
    num_images = np.array([point.num_images for point in points])
    num_sizes = len(np.unique(num_images))
    if num_sizes < 2:
        raise ValueError(
            f"a line needs distances of two numbers of images at least, got {num_sizes}"
        )
    scale = (num_images / num_images.max()) ** 2  # square roots of the weights
    design = np.stack([scale, scale / num_images], axis=1)
    means = np.array([point.mean for point in points])
    infinity, slope = np.linalg.lstsq(design, scale * means)[0]
    return Extrapolation(float(infinity), float(slope))
