from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from lct_pipeline.core.outliers import (
    OutlierStatistics,
    outlier_statistics,
)


def uint8_like(low: int, high: int, *, channels: int = 3) -> Tensor:
    """Integers with a heavy centre, ties and outliers on both sides."""
    rng = np.random.default_rng(0)
    values = rng.normal(loc=(low + high) / 2, scale=6, size=(40, channels, 6, 6))
    far = rng.random(values.shape) < 0.05
    values[far] = rng.integers(low, high, size=far.sum(), endpoint=True)
    values[0, :, 0, 0], values[0, :, 0, 1] = low, high
    return torch.from_numpy(values.round().clip(low, high).astype(np.uint8))


def gaussian(*, shift: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([0.5, 1.0, 4.0])[:, None, None]
    return shift + scale * torch.randn(300, 3, 6, 6, generator=generator)


def impulsive(scale: float) -> Tensor:
    """Values around 0 and 5, and a few that reach ``scale`` times the distance of quartiles."""
    rng = np.random.default_rng(1)
    values = rng.normal(loc=[[[0.0]], [[5.0]]], size=(60, 2, 8, 8))
    values[7, :, 0, 0], values[9, :, 1, 1] = 1.35 * scale, -0.7 * scale
    return torch.from_numpy(values).float()


def cauchy() -> Tensor:
    values = stats.cauchy.rvs(size=(80, 2, 8, 8), random_state=2)
    return torch.from_numpy(values).float()


def statistics_of(values: Tensor, sizes: list[int]) -> list[OutlierStatistics]:
    def batches() -> Iterator[Tensor]:
        yield from values.split(sizes)

    return outlier_statistics(batches)


def channels_of(values: Tensor) -> list[np.ndarray]:
    """Each channel's values, then those of all together, float64."""
    array = values.double().numpy()
    return [*array.swapaxes(0, 1).reshape(array.shape[1], -1), array.ravel()]


UINT8 = [(0, 255), (7, 200), (0, 16), (1, 250)]


EXACT = {
    **{f"uint8 {bounds}": uint8_like(*bounds) for bounds in UINT8},
    "gaussian": gaussian(shift=-0.3),
    **{f"impulsive {scale:g}": impulsive(scale) for scale in (1e2, 1e4, 1e6, 1e30)},
    "cauchy": cauchy(),
    "zeros": torch.tensor([0.0, -0.0, 1.0, -1e-42])
    .reshape(1, 1, 2, 2)
    .expand(9, 2, 2, 2),
}


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("num_batches", [1, 4])
def test_quartiles_fences_and_shares_are_exactly_those_of_numpy_whatever_the_outliers(
    name: str, num_batches: int
) -> None:
    values = EXACT[name]
    rows = statistics_of(values, list(map(len, values.tensor_split(num_batches))))
    assert [row.channel for row in rows] == [*map(str, range(values.shape[1])), "all"]
    for row, known in zip(rows, channels_of(values), strict=True):
        q1, median, q3 = np.percentile(known, [25, 50, 75], method="inverted_cdf")
        assert (row.q1, row.median, row.q3) == (q1, median, q3)
        iqr = q3 - q1
        assert (row.inner_low, row.inner_high) == (q1 - 1.5 * iqr, q3 + 1.5 * iqr)
        assert (row.outer_low, row.outer_high) == (q1 - 3 * iqr, q3 + 3 * iqr)
        for share, k in ((row.share_beyond_inner, 1.5), (row.share_beyond_outer, 3)):
            beyond = (known < q1 - k * iqr) | (known > q3 + k * iqr)
            assert share == beyond.mean()
    gaussians = (
        rows[0].gaussian_share_beyond_inner,
        rows[0].gaussian_share_beyond_outer,
    )
    for share, k in zip(gaussians, (1.5, 3), strict=True):
        expected = 2 * stats.norm.sf(stats.norm.ppf(0.75) * (1 + 2 * k))
        assert share == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    "values", [gaussian(), gaussian(shift=1e4), uint8_like(0, 255)]
)
@pytest.mark.parametrize("num_batches", [1, 7])
def test_moments_are_those_of_numpy_and_scipy(values: Tensor, num_batches: int) -> None:
    size = -(-len(values) // num_batches)
    rows = statistics_of(
        values, [*[size] * (num_batches - 1), len(values) % size or size]
    )
    for row, known in zip(rows, channels_of(values), strict=True):
        assert row.num_values == known.size
        assert (row.minimum, row.maximum) == (known.min(), known.max())
        assert row.mean == pytest.approx(known.mean(), rel=1e-12, abs=1e-12)
        assert row.std == pytest.approx(known.std(), rel=1e-9)
        assert row.skewness == pytest.approx(stats.skew(known), rel=1e-6, abs=1e-8)
        expected = stats.kurtosis(known)
        assert row.excess_kurtosis == pytest.approx(expected, rel=1e-6, abs=1e-8)


def test_constant_values_have_no_spread_and_no_outliers() -> None:
    for row in statistics_of(torch.full((4, 2, 3), 7.0), [2, 2]):
        assert row.q1 == row.median == row.q3 == row.mean == 7
        assert row.std == row.skewness == 0
        assert row.share_beyond_inner == row.share_beyond_outer == 0
        assert np.isfinite(row.excess_kurtosis)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    values = torch.zeros(4, 2, 3)
    values[2, 1, 0] = bad
    with pytest.raises(ValueError, match="not all finite"):
        statistics_of(values, [3, 1])
    with pytest.raises(ValueError, match="no values"):
        outlier_statistics(lambda: iter(()))
