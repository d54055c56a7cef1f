from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lct_pipeline.core.linear_combination import (
    TILE,
    WeightLayout,
    WeightMatrix,
    combine,
    project,
)

BUFFER = "1.num_batches_tracked"


def state(seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Linear(4, 5))
    with torch.no_grad():
        for p in net.parameters():
            p.normal_()
    return net.state_dict()


LAYOUT = WeightLayout(
    {n: tuple(t.shape) for n, t in state(0).items() if t.is_floating_point()}
)


def flat(num: int) -> np.ndarray:
    """Return K checkpoints of the small network, ``(K, N)``."""
    return np.stack([LAYOUT.flatten(state(seed)) for seed in range(num)])


def random_weights(num: int, num_weights: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(num, num_weights)).astype(np.float32)


def alphas(num: int, num_checkpoints: int) -> np.ndarray:
    alpha = np.random.default_rng(0).normal(size=(num, num_checkpoints))
    return alpha + (1 - alpha.sum(1, keepdims=True)) / num_checkpoints


class WatchedMatrix:
    """Remembers what was read, and breaks down where it is told to."""

    def __init__(self, array: np.ndarray, *, broken_from: int | None = None) -> None:
        self.array, self.shape = array, array.shape
        self.broken_from = broken_from
        self.spans: list[tuple[int, int]] = []

    def read(self, columns: slice, out: np.ndarray) -> None:
        self.spans.append((columns.start, columns.stop))
        if self.broken_from is not None and columns.start >= self.broken_from:
            raise OSError(f"the disk is gone at {columns.start}")
        out[:] = self.array[:, columns]


@pytest.mark.parametrize(
    ("num_weights", "block_size"),
    [
        (TILE, TILE),
        (TILE + 1, TILE),
        (TILE + 1, 2 * TILE),
        (2 * TILE + 3, TILE + 5),
        (3 * TILE - 1, 5 * TILE),
        (1, 1),
    ],
)
def test_tiles_and_blocks_of_any_size_meet_without_a_gap(
    num_weights: int, block_size: int
) -> None:
    array, coefficients = random_weights(4, num_weights), alphas(2, 4)
    before = array.copy()
    found = combine(WeightMatrix(array), coefficients, block_size=block_size)
    np.testing.assert_allclose(found, coefficients @ array.astype(float), rtol=1e-6)
    assert np.array_equal(array, before)


def test_a_combination_is_the_same_beside_others_alone_and_in_blocks_of_any_size() -> (
    None
):
    """Nearly all of each sum cancels: what is left is rounding, which depends on the order."""
    array = np.repeat(random_weights(1, 3 * TILE + 77), 700, axis=0)
    coefficients = alphas(9, 700)
    coefficients[3:5, 7:300] = 0  # checkpoints that some of them do not use
    used = coefficients != 0
    coefficients -= (
        used * coefficients.sum(1, keepdims=True) / used.sum(1, keepdims=True)
    )
    whole = combine(WeightMatrix(array), coefficients, block_size=10**6)
    for block_size in (1, TILE, 2 * TILE + 5):
        found = combine(WeightMatrix(array), coefficients, block_size=block_size)
        assert np.array_equal(found, whole)
    for rows in ([0], [3], [4, 8], [8, 4, 0, 3, 1]):
        found = combine(WeightMatrix(array), coefficients[rows], block_size=TILE)
        assert np.array_equal(found, whole[rows])
        used = np.flatnonzero(coefficients[rows].any(0))
        matrix = WeightMatrix(array).rows(used)
        found = combine(matrix, coefficients[rows][:, used], block_size=TILE)
        assert np.array_equal(found, whole[rows])


def test_what_is_the_same_in_all_checkpoints_stays_so_under_large_coefficients() -> (
    None
):
    same = np.repeat(random_weights(1, 500), 6, axis=0)
    found = combine(
        WeightMatrix(same), 1e4 * alphas(3, 6) - 1e4 / 6 + 1 / 6, block_size=1
    )
    assert np.array_equal(found, same[:3])


@pytest.mark.parametrize("block_size", [3, 10_000])
def test_one_hot_coefficients_give_a_checkpoint_bit_for_bit(block_size: int) -> None:
    array = flat(4)
    array[:, ::5] = -0.0
    array[:, 1::5] = np.float32(1e-42)  # subnormal
    mixed = np.concatenate([np.eye(4), alphas(1, 4), [[1, 0, 1, 0], [0, 0, 0, 0]]])
    combined = combine(WeightMatrix(array), mixed, block_size=block_size)
    assert np.array_equal(combined[:4].view(np.int32), array.view(np.int32))
    np.testing.assert_allclose(combined, mixed @ array.astype(float), atol=2e-6)


def test_the_result_is_put_where_it_is_wanted() -> None:
    room = np.full((5, LAYOUT.num_weights), np.nan, np.float32)
    matrix, coefficients = WeightMatrix(flat(3)), alphas(2, 3)
    found = combine(matrix, coefficients, block_size=30, out=room[1:3])
    assert np.shares_memory(found, room)
    assert np.array_equal(room[1:3], combine(matrix, coefficients, block_size=30))
    assert np.isnan(room[[0, 3, 4]]).all()


ONES = np.ones(5 * TILE, np.float32)
WORK: dict[str, Callable[[Any], Any]] = {
    "combine": lambda matrix: combine(matrix, alphas(1, 2), block_size=2 * TILE + 9),
    "project": lambda matrix: project(matrix, ONES, block_size=2 * TILE + 9),
}


@pytest.mark.parametrize("work", WORK)
def test_every_column_is_read_once_and_no_more_than_a_block_at_a_time(
    work: str,
) -> None:
    matrix = WatchedMatrix(random_weights(2, 5 * TILE))
    WORK[work](matrix)
    assert matrix.spans == [(a * TILE, b * TILE) for a, b in ((0, 2), (2, 4), (4, 5))]


@pytest.mark.parametrize("broken_from", [0, 2 * TILE, 4 * TILE])
@pytest.mark.parametrize("work", WORK)
def test_what_goes_wrong_in_reading_ahead_is_raised_to_the_caller(
    work: str, broken_from: int
) -> None:
    matrix = WatchedMatrix(random_weights(2, 5 * TILE), broken_from=broken_from)
    with pytest.raises(OSError, match=f"the disk is gone at {broken_from}"):
        WORK[work](matrix)
    names = [thread.name for thread in threading.enumerate()]
    assert not any("read checkpoints" in name for name in names)


def test_projections_are_the_plain_product_in_float64_for_blocks_of_any_size() -> None:
    array = random_weights(5, 2 * TILE + 7)
    vector = random_weights(1, 2 * TILE + 7)[0][::-1]
    slow = array.astype(np.float64) @ vector.astype(np.float64)
    of_sizes = [
        project(WeightMatrix(array), vector, block_size=size)
        for size in (1, 100, TILE, 10 * TILE)
    ]
    for found in of_sizes:
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, slow, rtol=1e-10)
        assert np.array_equal(found, of_sizes[0])


def test_flatten_and_unflatten_are_inverse_and_constants_are_copied() -> None:
    original, constants = state(0), {BUFFER: torch.tensor(17), "2.bias": torch.ones(5)}
    layout = WeightLayout({**LAYOUT.shapes, "scalar": ()}, constants)
    original["scalar"] = torch.tensor(3.0)
    weights = layout.flatten(original)
    assert len(weights) == layout.num_weights == LAYOUT.num_weights + 1
    again = layout.unflatten(weights)
    assert again[BUFFER] == 17 and again[BUFFER].dtype == torch.int64
    for name, tensor in {**original, **constants}.items():
        assert torch.equal(again[name], tensor)
    weights[:] = 3
    assert (again["0.weight"] == 3).all()  # its tensors share the memory


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, r"'2\.bias' is missing"),
        ({"2.bias": torch.zeros(6)}, r"'2\.bias' has shape \(6,\), expected \(5,"),
    ],
)
def test_a_tensor_that_is_missing_or_of_another_shape_is_named(
    changes: dict[str, Tensor], message: str
) -> None:
    tensors = state(0)
    del tensors["2.bias"]
    with pytest.raises(ValueError, match=message):
        LAYOUT.flatten(tensors | changes)
