from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from describing import network, new_network, noisy_latents, num_parameters
from torch import nn

from lct_pipeline.models.layers import NormName
from lct_pipeline.models.unet import ResidualBlock, SelfAttention


def paper_network(norm: NormName, **changes: Any) -> Any:
    with torch.device("meta"):
        return new_network(
            "unet",
            sample_shape=(4, 32, 32),
            norm=norm,
            width=128,
            multipliers=(1, 2, 3, 4),
            num_blocks=4,
            attention_sizes=(16, 8),
            head_width=64,
            **changes,
        )


def test_the_papers_network_has_the_papers_number_of_parameters() -> None:
    # 158.36 M and 151.33 M by the authors' code
    non_scaling = paper_network("non_scaling_layer_norm")
    assert num_parameters(non_scaling) == 158_355_972
    assert num_parameters(paper_network("group_norm")) == 151_325_956
    conditional = paper_network("non_scaling_layer_norm", num_classes=1000)
    assert num_parameters(conditional) == 158_355_972 + 1001 * 512


def test_the_papers_network_attends_at_16_8_and_in_the_middle() -> None:
    net = paper_network("non_scaling_layer_norm")
    blocks = [m for m in net.modules() if isinstance(m, SelfAttention)]
    sides = [block.norm.normalized_shape[1] for block in blocks]
    # 4 blocks down and 5 up at each of two sides, one in the middle
    assert sorted(set(sides)) == [4, 8, 16]
    assert [sides.count(side) for side in (16, 8, 4)] == [9, 9, 1]
    assert all(b.qkv.in_channels == 64 * b.num_heads for b in blocks)


@pytest.mark.parametrize("multipliers", [(1,), (1, 2), (1, 1, 2, 2)])
def test_any_number_of_levels_that_the_side_allows_works(
    multipliers: tuple[int, ...],
) -> None:
    net = network("unet", multipliers=multipliers, num_blocks=2)
    assert net(*noisy_latents()).shape == (3, 2, 8, 8)


def test_attention_is_softmax_over_positions_for_each_head() -> None:
    torch.manual_seed(0)
    attention = SelfAttention(8, 3, 4, "group_norm")
    nn.init.normal_(attention.project.weight)
    x = torch.randn(2, 8, 3, 3)
    assert attention.num_heads == 2
    qkv = attention.qkv(attention.norm(x)).flatten(2)  # (B, 24, 9)
    expected = torch.empty(2, 8, 9)
    for b in range(2):
        for head in range(2):
            own = slice(4 * head, 4 * head + 4)
            q, k, v = (part[b, own] for part in qkv.split(8, dim=1))  # each (4, 9)
            weights = ((q.T @ k) / math.sqrt(4)).softmax(1)  # (query, key)
            expected[b, own] = (weights @ v.T).T
    expected = x + attention.project(expected.unflatten(2, (3, 3)))
    torch.testing.assert_close(attention(x), expected)


@pytest.mark.parametrize(("how", "side"), [("keep", 4), ("down", 2), ("up", 8)])
def test_new_blocks_pass_on_the_resampled_input(how: Any, side: int) -> None:
    sizes: dict[str, Any] = {
        "embedding_width": 8,
        "attention_sizes": (),
        "head_width": 4,
    }
    block = ResidualBlock(
        4, 4, 4, norm="layer_norm", dropout=0.0, resample=how, **sizes
    )
    x = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    out = block(x, torch.randn(2, 8))
    assert out.shape == (2, 4, side, side)
    expected = {
        "keep": x,
        "down": x.unflatten(3, (2, 2)).unflatten(2, (2, 2)).mean((3, 5)),
        "up": x.repeat_interleave(2, 2).repeat_interleave(2, 3),
    }[how]
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("shape", [(2, 8, 4), (2, 6, 6)])
def test_latents_that_do_not_fit_are_refused_with_their_size(
    shape: tuple[int, int, int],
) -> None:
    with pytest.raises(ValueError, match=f"multiple of 4, got {shape[1]}x{shape[2]}"):
        new_network("unet", sample_shape=shape, multipliers=(1, 1, 1))


def test_channels_that_heads_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="112 channels"):
        new_network("unet", width=112, multipliers=(1, 1), head_width=32)
