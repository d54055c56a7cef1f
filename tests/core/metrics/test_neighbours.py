from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from lct_pipeline.core.metrics import neighbours as module
from lct_pipeline.core.metrics.neighbours import (
    ManifoldMetrics,
    copy_ratios,
    manifold_metrics,
    nearest_neighbours,
)


def cloud(num: int, width: int = 4, *, seed: int = 0, shift: float = 0.0) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(shift + rng.normal(size=(num, width)))


def inside(points: np.ndarray, centres: np.ndarray, k: int) -> np.ndarray:
    """Which points, ``(N,)``, are in the ball of which centre, ``(M,)``, one by one."""
    balls = np.zeros((len(points), len(centres)), dtype=bool)
    for i, centre in enumerate(centres):
        others = np.delete(centres, i, axis=0)
        radius = np.sort(np.linalg.norm(others - centre, axis=1))[k - 1]
        balls[:, i] = np.linalg.norm(points - centre, axis=1) <= radius
    return balls


def plain_metrics(
    real: np.ndarray, generated: np.ndarray, k: int, k_density: int
) -> ManifoldMetrics:
    in_balls = inside(generated, real, k_density)
    return ManifoldMetrics(
        precision=inside(generated, real, k).any(1).mean(),
        recall=inside(real, generated, k).any(1).mean(),
        density=in_balls.sum() / (k_density * len(generated)),
        coverage=in_balls.any(0).mean(),
    )


def test_a_set_has_all_of_itself() -> None:
    x = cloud(50, shift=100.0).float()
    found = manifold_metrics(x, x.clone(), k=3, k_density=5)
    # each image is in its own ball, and in those of whom it is one of the five nearest
    assert found == (1.0, 1.0, pytest.approx(6 / 5), 1.0)


def test_density_and_coverage_are_those_expected_of_equal_distributions() -> None:
    """Density 1, coverage 1 - (N - 1) ... (N - k) / ((2 N - 1) ... (2 N - k)) for N and N images.

    The k nearest of all others to a real image are all real with the product's probability.
    """
    N, k = 400, 5
    found = [
        manifold_metrics(
            cloud(N, seed=seed), cloud(N, seed=100 + seed), k=3, k_density=k
        )
        for seed in range(20)
    ]
    mean = ManifoldMetrics(*np.mean(found, axis=0))
    places = np.arange(1, k + 1)
    expected = 1 - np.prod((N - places) / (2 * N - places))
    assert mean.density == pytest.approx(1, abs=0.02)
    assert mean.coverage == pytest.approx(expected, abs=0.01)


def test_copies_of_real_images_are_real_and_their_balls_are_points() -> None:
    real = cloud(300, width=96, shift=5.0)
    generated = real[7:8].repeat(6, 1)  # their neighbours are at distance 0
    found = manifold_metrics(real, generated, k=3, k_density=5, block_size=4)
    assert found.precision == 1.0
    assert found.recall == pytest.approx(1 / 300)


def test_no_distance_is_computed_twice_and_no_more_than_a_block_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = []
    compute = module.squared_feature_distances

    def watched(a: Tensor, b: Tensor) -> Tensor:
        sizes.append((len(a), len(b)))
        return compute(a, b)

    monkeypatch.setattr(module, "squared_feature_distances", watched)
    manifold_metrics(cloud(48), cloud(32, seed=1), k=3, k_density=5, block_size=16)
    assert set(sizes) == {(16, 16)}
    assert len(sizes) == 6 + 3 + 3 * 2  # pairs of three blocks, of two, and across


@pytest.mark.parametrize(
    ("num", "other", "refused"),
    [(5, 9, "k=5 need at least 6 real .* got 5"), (9, 3, "k=3 .* 4 generated .* 3")],
)
def test_too_few_images_for_a_neighbour_are_refused(
    num: int, other: int, refused: str
) -> None:
    with pytest.raises(ValueError, match=refused):
        manifold_metrics(cloud(num), cloud(other), k=3, k_density=5)
    manifold_metrics(cloud(6), cloud(4), k=3, k_density=5)


@pytest.mark.parametrize("sizes", [[50], [1] * 50, [3, 40, 7], [2, 2, 46]])
def test_neighbours_are_those_of_scikit_learn(sizes: list[int]) -> None:
    queries, images = cloud(20), cloud(50, seed=1)
    search = NearestNeighbors(n_neighbors=5).fit(images.numpy())
    distances, indices = search.kneighbors(queries.numpy())
    found = nearest_neighbours(queries, iter(images.split(sizes)), 5)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-12)
    np.testing.assert_array_equal(found.indices, indices)
    assert found.distances.dtype == torch.float64


def test_of_equally_near_images_the_earlier_ones_are_taken() -> None:
    image = cloud(1)
    images = torch.cat([cloud(3, seed=1), image.repeat(40, 1)])
    for batch_size in (1, 7, 43):
        found = nearest_neighbours(image, images.split(batch_size), 4)
        assert found.indices.tolist() == [[3, 4, 5, 6]]
        assert found.distances.tolist() == [[0.0] * 4]


def test_a_copy_is_at_distance_zero_also_in_float32() -> None:
    images = (5 + cloud(30, width=512)).float()
    found = nearest_neighbours(images[[4, 20]], images.split(8), 1)
    assert found.indices.tolist() == [[4], [20]]
    assert found.distances.tolist() == [[0.0], [0.0]]


def test_fewer_images_than_neighbours_are_refused() -> None:
    with pytest.raises(ValueError, match=r"4 nearest neighbours .* got 3"):
        nearest_neighbours(cloud(2), cloud(3).split(2), 4)
    assert nearest_neighbours(cloud(2), cloud(4).split(3), 4).indices.shape == (2, 4)


def test_ratios_are_to_the_median_of_the_held_out_images() -> None:
    generated = torch.tensor([0.0, 1.0, 4.0, 12.0])
    held_out = torch.tensor([1.0, 3.0, 5.0, 100.0])
    found = copy_ratios(generated, held_out)
    assert found.tolist() == [0.0, 0.25, 1.0, 3.0]
    with pytest.raises(ValueError, match="training images"):
        copy_ratios(torch.ones(3), torch.tensor([0.0, 0.0, 0.0, 2.0]))


@pytest.mark.parametrize("block_size", [1, 7, 1000])
@pytest.mark.parametrize(("k", "k_density"), [(1, 5), (3, 5), (3, 3), (5, 2)])
@pytest.mark.parametrize(("num", "other"), [(40, 40), (30, 55)])
def test_manifold_metrics_agree_with_a_slow_plain_version(
    k: int, k_density: int, num: int, other: int, block_size: int
) -> None:
    real, generated = cloud(num), cloud(other, seed=1, shift=1.0)
    expected = plain_metrics(real.numpy(), generated.numpy(), k, k_density)
    assert all(0 < value < 1 for value in expected)
    found = manifold_metrics(
        real, generated, k=k, k_density=k_density, block_size=block_size
    )
    assert found == pytest.approx(expected)
