from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lct_pipeline.core.metrics.frechet import (
    FeatureMoments,
    FeatureStatistics,
    FrechetReference,
)
from lct_pipeline.core.metrics.size_bias import SizePoint, distance_by_size, extrapolate

WIDTH = 24


def reference() -> FrechetReference:
    """A unit Gaussian, of infinitely many images."""
    mu, cov = torch.zeros(WIDTH).double(), torch.eye(WIDTH).double()
    return FrechetReference(FeatureStatistics(mu, cov, 10**9))


def blocks(sizes: list[int], seed: int = 0, std: float = 1.1) -> list[FeatureMoments]:
    rng = np.random.default_rng(seed)
    found = []
    for size in sizes:
        found.append(FeatureMoments(WIDTH))
        found[-1].update(torch.from_numpy(std * rng.normal(size=(size, WIDTH))))
    return found


@pytest.mark.parametrize(
    ("num_blocks", "sizes", "groups"),
    [
        (2, [1, 2], [2, 1]),
        (4, [1, 2, 4], [4, 2, 1]),
        (5, [1, 2, 4, 5], [5, 2, 1, 1]),
        (12, [1, 2, 4, 8, 12], [12, 6, 3, 1, 1]),
        (1, [1], [1]),
    ],
)
def test_the_numbers_of_images_double_up_to_all(
    num_blocks: int, sizes: list[int], groups: list[int]
) -> None:
    points = distance_by_size(blocks([10] * num_blocks), reference())
    assert [point.num_images for point in points] == [10 * size for size in sizes]
    assert [point.num_groups for point in points] == groups
    assert [math.isnan(point.std) for point in points] == [n == 1 for n in groups]


def test_distances_are_those_of_the_images_of_each_group() -> None:
    some = blocks([31, 31, 30, 30, 30])
    before = some[0].statistics()
    points = distance_by_size(some, reference())
    groups = [some[:2], some[2:4], some]
    pairs = [FeatureMoments.merged(group).statistics() for group in groups]
    *distances, whole = (reference().distance(pair) for pair in pairs)
    assert points[1].num_images == 61
    assert points[1].mean == pytest.approx(np.mean(distances), rel=1e-10)
    assert points[1].std == pytest.approx(np.std(distances, ddof=1), rel=1e-9)
    assert points[-1].mean == pytest.approx(whole, rel=1e-10)
    assert torch.equal(some[0].statistics().cov, before.cov)


def points_on(values: dict[int, float]) -> list[SizePoint]:
    return [SizePoint(n, value, math.nan, 1) for n, value in values.items()]


def test_a_line_over_one_by_n_is_found_again() -> None:
    line = points_on({n: 3.0 + 50.0 / n for n in (10, 20, 40, 45)})
    assert extrapolate(line) == pytest.approx((3.0, 50.0))
    with pytest.raises(ValueError, match=r"two numbers of images at least, got 1"):
        extrapolate(line[:1])


def test_points_have_the_weight_of_the_fourth_power_of_their_images() -> None:
    """By weights 1, 16, 256, whose roots are 1, 4, 16."""
    found = extrapolate(points_on({10: 9.0, 20: 4.0, 40: 2.0}))
    root, place = np.array([1.0, 4.0, 16.0]), np.array([4.0, 2.0, 1.0])  # 40 / N
    design = root[:, None] * np.stack([np.ones(3), place], axis=1)
    intercept, slope = np.linalg.pinv(design) @ (root * [9.0, 4.0, 2.0])
    assert found == pytest.approx((intercept, 40 * slope))


def test_the_extrapolated_distance_of_gaussians_is_much_nearer_to_the_true_one() -> (
    None
):
    """|I - 1.1 I|^2 over 24 features is 0.24; the measured one is too large by a third."""
    true = WIDTH * 0.1**2
    measured, extrapolated = [], []
    for seed in range(20):
        points = distance_by_size(blocks([200] * 12, seed), reference())
        means = [point.mean for point in points]
        assert means == sorted(means, reverse=True)
        measured.append(means[-1])
        extrapolated.append(extrapolate(points).infinity)
    excess = np.mean(measured) - true
    assert excess > 0.2 * true
    assert abs(np.mean(extrapolated) - true) < 0.1 * excess
    errors = np.square(np.subtract([measured, extrapolated], true)).mean(1) ** 0.5
    assert errors[1] < 0.4 * errors[0]
