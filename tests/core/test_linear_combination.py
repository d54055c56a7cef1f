from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lct_pipeline.core.linear_combination import WeightLayout, combine


def state(seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Linear(4, 5))
    with torch.no_grad():
        for p in net.parameters():
            p.normal_()
    return net.state_dict()


def checkpoints(num: int) -> tuple[list[dict[str, Tensor]], WeightLayout, np.ndarray]:
    states = [state(seed) for seed in range(num)]
    layout = WeightLayout.of(states[0])
    return states, layout, np.stack([layout.flatten(s) for s in states])


def alphas(num: int, num_checkpoints: int) -> np.ndarray:
    alpha = np.random.default_rng(0).normal(size=(num, num_checkpoints))
    return alpha + (1 - alpha.sum(1, keepdims=True)) / num_checkpoints


@pytest.mark.parametrize("block_size", [1, 7, 64, 10_000])
def test_blocks_agree_with_a_loop_over_state_dicts(block_size: int) -> None:
    states, layout, matrix = checkpoints(5)
    coefficients = alphas(3, 5)
    combined = combine(matrix, coefficients, block_size=block_size)
    assert combined.shape == (3, layout.num_weights)
    assert combined.dtype == np.float32
    for alpha, weights in zip(coefficients, combined, strict=True):
        mixed = layout.unflatten(weights)
        for name in layout.shapes:
            slow = sum(a * s[name].double() for a, s in zip(alpha, states, strict=True))
            torch.testing.assert_close(mixed[name], slow.float(), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("block_size", [3, 10_000])
def test_one_hot_coefficients_give_a_checkpoint_bit_for_bit(block_size: int) -> None:
    states, layout, matrix = checkpoints(4)
    combined = combine(matrix, np.eye(4), block_size=block_size)
    assert np.array_equal(combined, matrix)
    again = layout.unflatten(combined[2])
    assert all(torch.equal(again[name], states[2][name]) for name in layout.shapes)


def test_what_all_checkpoints_share_stays_the_same() -> None:
    _, _, matrix = checkpoints(1)
    same = np.repeat(matrix, 6, axis=0)
    combined = combine(same, alphas(4, 6), block_size=16)
    np.testing.assert_allclose(combined, np.repeat(matrix, 4, axis=0), rtol=1e-5)


def test_a_memory_map_is_combined_like_an_array_and_left_as_it_is(
    tmp_path: Path,
) -> None:
    _, _, matrix = checkpoints(4)
    np.save(tmp_path / "matrix.npy", matrix)
    mapped = np.load(tmp_path / "matrix.npy", mmap_mode="r")
    coefficients = alphas(2, 4)
    combined = combine(mapped, coefficients, block_size=11)
    assert np.array_equal(combined, combine(matrix, coefficients, block_size=11))
    assert np.array_equal(np.load(tmp_path / "matrix.npy"), matrix)


def test_flatten_and_unflatten_are_inverse_and_leave_integer_buffers_out() -> None:
    original = state(0)
    layout = WeightLayout.of(original)
    again = layout.unflatten(layout.flatten(original))
    floating = [name for name, t in original.items() if t.is_floating_point()]
    assert list(layout.shapes) == list(again) == floating
    assert all(torch.equal(again[name], original[name]) for name in floating)


def test_number_of_weights_counts_every_floating_value_once() -> None:
    tensors = state(0)
    expected = sum(t.numel() for t in tensors.values() if t.is_floating_point())
    layout = WeightLayout.of(tensors)
    assert layout.num_weights == expected == len(layout.flatten(tensors))


def test_a_missing_tensor_is_named() -> None:
    layout = WeightLayout.of(state(0))
    tensors = state(0)
    del tensors["2.bias"]
    with pytest.raises(ValueError, match=r"'2\.bias' is missing"):
        layout.flatten(tensors)


def test_a_tensor_of_another_shape_is_named_with_both_shapes() -> None:
    layout = WeightLayout.of(state(0))
    tensors = state(0) | {"2.bias": torch.zeros(6)}
    with pytest.raises(ValueError, match=r"'2\.bias' has shape \(6,\), expected \(5,"):
        layout.flatten(tensors)
