"""Outlier statistics of the latents, after sLCT section 4.1 and its figure 1.

Quartiles, Tukey's fences, moments and tail shares by reduction over batches, in float64: any
number of values, the same memory. Tukey's multipliers, 1.5 for the inner and 3 for the outer
fences, are the textbook's; the paper does not print its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

INNER, OUTER = 1.5, 3.0
NUM_BINS = (
    65_536  # grid of the quartiles: exact for uint8, 2 / 65535 of the range otherwise
)
FENCES = (
    "q1",
    "median",
    "q3",
    "inner_low",
    "inner_high",
    "outer_low",
    "outer_high",
)


@dataclass(frozen=True)
class OutlierStatistics:
    """Statistics of one channel, or of all together."""

    channel: str
    num_values: int
    mean: float
    std: float
    skewness: float
    excess_kurtosis: float
    minimum: float
    maximum: float
    q1: float
    median: float
    q3: float
    inner_low: float
    inner_high: float
    outer_low: float
    outer_high: float
    share_beyond_inner: float
    share_beyond_outer: float
    gaussian_share_beyond_inner: float
    gaussian_share_beyond_outer: float


class CentralMoments:
    """Count, mean and the sums of the 2nd to 4th powers of deviations, mergeable (Pebay 2008).

    All of shape ``(C,)``, one entry per channel; minimum and maximum alike.
    """

    def __init__(self, values: Tensor) -> None:
        """Reduce ``(C, n)``."""
        values = values.double()
        self.count = torch.full((len(values),), values.shape[1], dtype=torch.float64)
        self.mean = values.mean(1)
        deviation = values - self.mean[:, None]
        self.m2, self.m3, self.m4 = (deviation.pow(p).sum(1) for p in (2, 3, 4))
        self.minimum, self.maximum = values.amin(1), values.amax(1)

    def merge(self, other: CentralMoments) -> None:
        """Add what another reduction has seen."""
        a, b = self.count, other.count
        n, d = a + b, other.mean - self.mean
        m4 = self.m4 + other.m4 + d**4 * a * b * (a**2 - a * b + b**2) / n**3
        m4 += 6 * d**2 * (a**2 * other.m2 + b**2 * self.m2) / n**2
        m4 += 4 * d * (a * other.m3 - b * self.m3) / n
        m3 = self.m3 + other.m3 + d**3 * a * b * (a - b) / n**2
        m3 += 3 * d * (a * other.m2 - b * self.m2) / n
        self.m2 = self.m2 + other.m2 + d**2 * a * b / n
        self.m3, self.m4 = m3, m4
        self.mean = self.mean + d * b / n
        self.count = n
        self.minimum = torch.minimum(self.minimum, other.minimum)
        self.maximum = torch.maximum(self.maximum, other.maximum)

    def pooled(self) -> CentralMoments:
        """Return the moments of all channels together, as one channel."""
        total, *others = map(self._channel, range(len(self.count)))
        for part in others:
            total.merge(part)
        return total

    def _channel(self, index: int) -> CentralMoments:
        one = CentralMoments(torch.zeros(1, 1))
        for name in vars(one):
            setattr(one, name, getattr(self, name)[index : index + 1].clone())
        return one


def gaussian_share_beyond(multiplier: float) -> float:
    """Return a Gaussian's share beyond the fences Q1 - k IQR and Q3 + k IQR."""
    quartile = (
        math.sqrt(2) * torch.erfinv(torch.tensor(0.5, dtype=torch.float64)).item()
    )
    return math.erfc(quartile * (1 + 2 * multiplier) / math.sqrt(2))


def outlier_statistics(
    batches: Callable[[], Iterator[Tensor]],
) -> list[OutlierStatistics]:
    """Return the statistics of each channel, named ``0``, ``1``, ..., then of ``all``.

    Args:
        batches: Starts a new pass over the values each time it is called, in batches
            ``(B, C, ...)``. Three passes: moments, quartiles, shares.

    Raises:
        ValueError: There are no values, or not all are finite.
    """
    moments = _moments(batches)
    histogram = _histograms(batches, moments)
    pooled = moments.pooled()
    grids = [histogram, histogram.sum(0, keepdim=True)]
    fences = [_fences(grid, pooled) for grid in grids]
    beyond = [
        _beyond(batches, f, pool) for f, pool in zip(fences, (False, True), strict=True)
    ]
    names = [str(channel) for channel in range(len(moments.count))]
    rows = _rows(names, moments, fences[0], beyond[0])
    return rows + _rows(["all"], pooled, fences[1], beyond[1])


def _channels_first(batch: Tensor) -> Tensor:
    """Return ``(B, C, ...)`` as ``(C, n)``, float64."""
    return batch.transpose(0, 1).flatten(1).double()


def _moments(batches: Callable[[], Iterator[Tensor]]) -> CentralMoments:
    parts = (CentralMoments(_channels_first(batch)) for batch in batches())
    total = next(parts, None)
    if total is None:
        raise ValueError("there are no values to describe")
    for part in parts:
        total.merge(part)
    if not torch.isfinite(total.m2).all():
        raise ValueError("the values are not all finite")
    return total


def _histograms(
    batches: Callable[[], Iterator[Tensor]], moments: CentralMoments
) -> Tensor:
    """Return counts ``(C, NUM_BINS)`` on one grid from the least to the largest value of all."""
    low, high = moments.minimum.min(), moments.maximum.max()
    step = _grid_step(low.item(), high.item())
    counts = torch.zeros(len(moments.count), NUM_BINS, dtype=torch.int64)
    for batch in batches():
        place = (_channels_first(batch) - low) / step
        bins = place.round().long().clamp(0, NUM_BINS - 1)
        for channel, row in enumerate(bins):
            counts[channel] += torch.bincount(row, minlength=NUM_BINS)
    return counts


def _grid_step(low: float, high: float) -> float:
    """Return the least power of two that spans the range in NUM_BINS: integers stay exact."""
    return 2.0 ** math.ceil(math.log2(max(high - low, 1e-300) / (NUM_BINS - 1)))


def _fences(counts: Tensor, pooled: CentralMoments) -> Tensor:
    """Return the values that ``FENCES`` names, ``(7, C)``."""
    low, high = pooled.minimum, pooled.maximum
    step = _grid_step(low.item(), high.item())
    cumulative = counts.cumsum(1)
    quarters = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
    ranks = quarters * cumulative[:, -1:]
    bins = torch.searchsorted(cumulative, ranks.ceil().long())
    q1, median, q3 = (low + bins * step).unbind(1)
    iqr = q3 - q1
    inner, outer = INNER * iqr, OUTER * iqr
    return torch.stack([q1, median, q3, q1 - inner, q3 + inner, q1 - outer, q3 + outer])


def _beyond(
    batches: Callable[[], Iterator[Tensor]], fences: Tensor, pool: bool
) -> Tensor:
    """Return the numbers of values beyond the inner and the outer fences: ``(2, C)``."""
    total = torch.zeros(2, fences.shape[1], dtype=torch.int64)
    for batch in batches():
        values = _channels_first(batch)
        values = values.reshape(1, -1) if pool else values
        for row, (low, high) in enumerate(((3, 4), (5, 6))):
            outside = (values < fences[low, :, None]) | (values > fences[high, :, None])
            total[row] += outside.sum(1)
    return total


def _rows(
    names: list[str], moments: CentralMoments, fences: Tensor, beyond: Tensor
) -> list[OutlierStatistics]:
    variance = moments.m2 / moments.count
    divisor = variance.clamp_min(1e-100)  # whose square is still above 0
    shares = beyond / moments.count
    columns = {
        "mean": moments.mean,
        "std": variance.sqrt(),
        "skewness": moments.m3 / moments.count / divisor**1.5,
        "excess_kurtosis": moments.m4 / moments.count / divisor**2 - 3,
        "minimum": moments.minimum,
        "maximum": moments.maximum,
        **dict(zip(FENCES, fences, strict=True)),
        "share_beyond_inner": shares[0],
        "share_beyond_outer": shares[1],
    }
    return [
        OutlierStatistics(
            channel=name,
            num_values=int(moments.count[c]),
            gaussian_share_beyond_inner=gaussian_share_beyond(INNER),
            gaussian_share_beyond_outer=gaussian_share_beyond(OUTER),
            **{key: column[c].item() for key, column in columns.items()},
        )
        for c, name in enumerate(names)
    ]
