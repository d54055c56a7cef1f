"""Outlier statistics of the latents, after sLCT section 4.1 and its figure 1.

Quartiles, Tukey's fences, moments and tail shares by reduction over batches, in float64: any
number of values, the same memory. Quartiles are exact, however far the outliers: values are counted
by the upper half of their float32 bits, then, where a quartile lies, by the lower half. Tukey's
multipliers, 1.5 for the inner and 3 for the outer fences, are the textbook's; the paper does not
print its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

INNER, OUTER = 1.5, 3.0
QUARTERS = (0.25, 0.5, 0.75)
HALF = 2**16  # values of half of the bits of a float32
LARGEST = 2**31 - 1  # all bits of an int32 but that of the sign
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
            ``(B, C, ...)``, taken as float32. Four passes: moments, both halves of the quartiles,
            shares.

    Raises:
        ValueError: There are no values, or not all are finite.
    """

    def channels() -> Iterator[Tensor]:
        return (batch.transpose(0, 1).flatten(1).float() for batch in batches())

    moments = _moments(channels)
    fences = _fences(_quartiles(channels))
    beyond = _beyond(channels, fences)
    names = [str(channel) for channel in range(len(moments.count))]
    rows = _rows(names, moments, fences[:, :-1], beyond[:, :-1])
    return rows + _rows(["all"], moments.pooled(), fences[:, -1:], beyond[:, -1:])


# starts a pass over all values, in batches ``(C, n)``, float32
Channels = Callable[[], Iterator[Tensor]]


def _moments(channels: Channels) -> CentralMoments:
    parts = map(CentralMoments, channels())
    total = next(parts, None)
    if total is None:
        raise ValueError("there are no values to describe")
    for part in parts:
        total.merge(part)
    if not torch.isfinite(total.m2).all():
        raise ValueError("the values are not all finite")
    return total


def _quartiles(channels: Channels) -> Tensor:
    """Return quartiles and median of each channel, then of all, ``(3, C + 1)``, float64.

    The q-th is the least value that a share q of all values does not exceed.
    """
    upper = sum(
        torch.stack([torch.bincount(own, minlength=HALF) for own in _halves(v)[0]])
        for v in channels()
    )
    assert isinstance(upper, Tensor)  # there are values
    upper = torch.cat([upper, upper.sum(0, keepdim=True)])
    ranks = (torch.tensor(QUARTERS, dtype=torch.float64) * upper.sum(1)[:, None]).ceil()
    bins, rest = _bins(upper[:, None].expand(-1, 3, -1), ranks.long())
    lower = torch.zeros(*bins.shape, HALF, dtype=torch.int64)
    for values in channels():
        every, below = _halves(values)
        halves = [*zip(every, below, strict=True), (every.flatten(), below.flatten())]
        for group, (own, rest_of_own) in enumerate(halves):
            for quarter, place in enumerate(bins[group]):
                inside = rest_of_own[own == place]
                lower[group, quarter] += torch.bincount(inside, minlength=HALF)
    return _values(bins, _bins(lower, rest)[0]).T


def _bins(counts: Tensor, ranks: Tensor) -> tuple[Tensor, Tensor]:
    """Return the bins, ``(G, 3)``, in which ranks from 1 on lie, and the ranks within them."""
    cumulative = counts.cumsum(-1)
    bins = torch.searchsorted(cumulative, ranks[..., None])
    before = (cumulative - counts).gather(-1, bins)
    return bins[..., 0], ranks - before[..., 0]


def _halves(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return upper and lower half, from 0 to 2^16, of keys in the order of float32 values.

    A key is the value's 32 bits as an integer, those of a negative value reversed.
    """
    bits = values.view(torch.int32)
    keys = torch.where(bits < 0, bits ^ LARGEST, bits)
    return (keys >> 16) + HALF // 2, keys & (HALF - 1)


def _values(upper: Tensor, lower: Tensor) -> Tensor:
    """Return the values of halves of keys, float64."""
    keys = ((upper - HALF // 2) * HALF + lower).int()
    return torch.where(keys < 0, keys ^ LARGEST, keys).view(torch.float32).double()


def _fences(quartiles: Tensor) -> Tensor:
    """Return the values that ``FENCES`` names, ``(7, G)``."""
    q1, _, q3 = quartiles
    inner, outer = INNER * (q3 - q1), OUTER * (q3 - q1)
    outside = [q1 - inner, q3 + inner, q1 - outer, q3 + outer]
    return torch.stack([*quartiles, *outside])


def _beyond(channels: Channels, fences: Tensor) -> Tensor:
    """Return the numbers of values beyond the inner and the outer fences: ``(2, C + 1)``."""
    total = torch.zeros(2, fences.shape[1], dtype=torch.int64)
    for batch in map(Tensor.double, channels()):
        for group, values in enumerate([*batch, batch]):
            for row, (low, high) in enumerate(fences[3:, group].unflatten(0, (2, 2))):
                total[row, group] += ((values < low) | (values > high)).sum()
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
