from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lct_pipeline.core.metrics import neighbours as module
from lct_pipeline.core.metrics.neighbours import ManifoldMetrics, manifold_metrics


def cloud(
    num: int, *, width: int = 4, seed: int = 0, shift: float = 0.0, scale: float = 1.0
) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(shift + scale * rng.normal(size=(num, width)))


def line(*places: float) -> Tensor:
    return torch.tensor(places, dtype=torch.float64)[:, None]


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


@pytest.mark.parametrize(("k", "k_density"), [(1, 5), (3, 5), (3, 3), (5, 2)])
@pytest.mark.parametrize(("num", "other"), [(40, 40), (30, 55)])
def test_it_agrees_with_a_slow_plain_version(
    k: int, k_density: int, num: int, other: int
) -> None:
    real, generated = cloud(num), cloud(other, seed=1, shift=1.0)
    expected = plain_metrics(real.numpy(), generated.numpy(), k, k_density)
    assert all(0 < value < 1 for value in expected)
    found = manifold_metrics(real, generated, k=k, k_density=k_density)
    assert found == pytest.approx(expected)


def test_a_line_is_worked_out_by_hand() -> None:
    # k = 1: radii of the real 1, 1, 3, 3; balls [-1, 1], [0, 2], [3, 9] and [6, 12]
    # k = 2: radii 6, 5, 5, 8; balls [-6, 6], [-4, 6], [1, 11] and [1, 17]
    real = line(0, 1, 6, 9)
    # radii of the generated 0.5, 0.5, 10.5: balls [1.5, 2.5], [2, 3] and [2.5, 23.5]
    generated = line(2, 2.5, 13)
    found = manifold_metrics(real, generated, k=1, k_density=2)
    assert found.precision == pytest.approx(1 / 3)  # 2, on the border of the second
    assert found.recall == pytest.approx(2 / 4)  # 6 and 9
    assert found.density == pytest.approx((4 + 4 + 1) / (2 * 3))
    assert found.coverage == 1
    found = manifold_metrics(real, generated, k=2, k_density=1)
    assert found.precision == 1
    assert found.density == pytest.approx(1 / 3)
    assert found.coverage == pytest.approx(1 / 4)


def test_a_set_has_all_of_itself() -> None:
    x = cloud(50, shift=100.0).float()
    found = manifold_metrics(x, x.clone(), k=3, k_density=5)
    # each image is in its own ball, and in those of whom it is one of the five nearest
    assert found == (1.0, 1.0, pytest.approx(6 / 5), 1.0)


def test_a_mode_that_all_images_fall_into_is_precise_and_poor() -> None:
    """Ten modes, and a generator that knows one of them."""
    modes = 100.0 * torch.arange(10).repeat_interleave(20)
    real = cloud(200) + modes[:, None]
    generated = cloud(200, seed=1, scale=0.3)
    found = manifold_metrics(real, generated, k=3, k_density=5)
    assert found.precision == 1
    assert found.recall <= 0.1
    assert found.density > 1
    assert found.coverage <= 0.1
    # the other way round, all modes are found and most of what is generated is wrong
    turned = manifold_metrics(generated, real, k=3, k_density=5)
    assert turned[:2] == (found.recall, found.precision)
    assert turned.density <= 0.2


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


def test_neither_order_nor_blocks_change_the_result() -> None:
    real, generated = cloud(60), cloud(45, seed=1, shift=0.5)
    expected = manifold_metrics(real, generated, k=3, k_density=5)
    generator = torch.Generator().manual_seed(0)
    for block_size in (1, 7, 45, 1000):
        mixed = real[torch.randperm(60, generator=generator)]
        others = generated[torch.randperm(45, generator=generator)]
        found = manifold_metrics(mixed, others, k=3, k_density=5, block_size=block_size)
        assert found == expected


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
