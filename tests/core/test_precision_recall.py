from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lct_pipeline.core import precision_recall as module
from lct_pipeline.core.precision_recall import PrecisionRecall, precision_recall


def cloud(
    num: int, *, width: int = 4, seed: int = 0, shift: float = 0.0, scale: float = 1.0
) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(shift + scale * rng.normal(size=(num, width)))


def line(*places: float) -> Tensor:
    return torch.tensor(places, dtype=torch.float64)[:, None]


def plain_share_inside(points: np.ndarray, centres: np.ndarray, k: int) -> float:
    """Share of points within any centre's distance to its k-th nearest neighbour, one by one."""
    radii = []
    for i, centre in enumerate(centres):
        others = np.delete(centres, i, axis=0)
        radii.append(np.sort(np.linalg.norm(others - centre, axis=1))[k - 1])
    inside = [
        any(np.linalg.norm(p - c) <= r for c, r in zip(centres, radii, strict=True))
        for p in points
    ]
    return float(np.mean(inside))


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize(("num", "other"), [(40, 40), (30, 55)])
def test_it_agrees_with_a_slow_plain_version(k: int, num: int, other: int) -> None:
    real, generated = cloud(num), cloud(other, seed=1, shift=1.0)
    expected = PrecisionRecall(
        plain_share_inside(generated.numpy(), real.numpy(), k),
        plain_share_inside(real.numpy(), generated.numpy(), k),
    )
    assert 0 < expected.precision < 1
    assert 0 < expected.recall < 1
    assert precision_recall(real, generated, k=k) == pytest.approx(expected)


def test_a_line_is_worked_out_by_hand() -> None:
    # k = 1: radii of the real 1, 1, 3, 3; balls [-1, 1], [0, 2], [3, 9] and [6, 12]
    real = line(0, 1, 6, 9)
    # radii of the generated 0.5, 0.5, 10.5: balls [1.5, 2.5], [2, 3] and [2.5, 23.5]
    generated = line(2, 2.5, 13)
    found = precision_recall(real, generated, k=1)
    assert found.precision == pytest.approx(1 / 3)  # 2, on the border of the second
    assert found.recall == pytest.approx(2 / 4)  # 6 and 9


def test_a_set_has_all_of_itself() -> None:
    x = cloud(50, shift=100.0).float()
    assert precision_recall(x, x.clone(), k=3) == (1.0, 1.0)


def test_images_outside_of_all_balls_count_for_nothing() -> None:
    real, generated = cloud(30), cloud(40, seed=1, shift=1e3)
    assert precision_recall(real, generated, k=3) == (0.0, 0.0)


def test_a_mode_that_all_images_fall_into_is_precise_and_poor() -> None:
    """Ten modes, and a generator that knows one of them."""
    modes = 100.0 * torch.arange(10).repeat_interleave(20)
    real = cloud(200) + modes[:, None]
    generated = cloud(200, seed=1, scale=0.3)
    found = precision_recall(real, generated, k=3)
    assert found.precision == 1
    assert found.recall <= 0.1
    # the other way round, all modes are found and most of what is generated is wrong
    assert precision_recall(generated, real, k=3) == found[::-1]


def test_copies_of_real_images_are_real_and_their_balls_are_points() -> None:
    real = cloud(300, width=96, shift=5.0)
    generated = real[7:8].repeat(6, 1)  # their neighbours are at distance 0
    found = precision_recall(real, generated, k=3, block_size=4)
    assert found == (1.0, pytest.approx(1 / 300))


def test_neither_order_nor_blocks_change_the_result() -> None:
    real, generated = cloud(60), cloud(45, seed=1, shift=0.5)
    expected = precision_recall(real, generated, k=3)
    generator = torch.Generator().manual_seed(0)
    for block_size in (1, 7, 45, 1000):
        mixed = real[torch.randperm(60, generator=generator)]
        others = generated[torch.randperm(45, generator=generator)]
        assert precision_recall(mixed, others, k=3, block_size=block_size) == expected


def test_no_more_distances_than_a_block_are_computed_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = []
    compute = module._squared_distances

    def watched(a: Tensor, b: Tensor) -> Tensor:
        sizes.append(max(len(a), len(b)))
        return compute(a, b)

    monkeypatch.setattr(module, "_squared_distances", watched)
    precision_recall(cloud(50), cloud(40, seed=1), k=3, block_size=16)
    assert max(sizes) == 16


@pytest.mark.parametrize(("num", "other", "name"), [(3, 9, "real"), (9, 3, "gener")])
def test_too_few_images_for_a_neighbour_are_refused(
    num: int, other: int, name: str
) -> None:
    with pytest.raises(ValueError, match=f"k=3 need at least 4 {name}.* got 3"):
        precision_recall(cloud(num), cloud(other), k=3)
    assert precision_recall(cloud(4), cloud(4), k=3) == (1.0, 1.0)
