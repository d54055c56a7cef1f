from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from describing import network, new_network, noisy_latents, num_parameters
from torch import Tensor, nn
from torch.nn import functional as F

from lct_pipeline.models.dit import (
    Attention,
    DiTBlock,
    rotary_positions,
    sinusoidal_positions,
)
from lct_pipeline.models.layers import NormName

POSITIONS = ["sinusoidal", "rotary"]


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize(
    ("norm", "norm_parameters"),
    [
        ("non_scaling_layer_norm", 1),
        ("rms_norm", 1),
        ("layer_norm", 2),
        ("non_affine_layer_norm", 0),
    ],
)
def test_dit_b_2_has_the_number_of_parameters_of_its_formula(
    positions: str, norm: NormName, norm_parameters: int
) -> None:
    with torch.device("meta"):
        net = new_network(
            "dit",
            sample_shape=(4, 32, 32),
            depth=12,
            width=768,
            head_width=64,
            positions=positions,
            norm=norm,
        )
    D, values_a_patch = 768, 4 * 2 * 2
    of_patches = (values_a_patch + 1) * D
    of_level = (256 + 1) * D + (D + 1) * D
    of_attention = (D + 1) * 3 * D + (D + 1) * D
    of_mlp = (D + 1) * 4 * D + (4 * D + 1) * D
    of_block = of_attention + of_mlp + (D + 1) * 6 * D + 2 * norm_parameters * D
    of_output = (D + 1) * 2 * D + norm_parameters * D + (D + 1) * values_a_patch
    found = num_parameters(net)
    assert found == of_patches + of_level + 12 * of_block + of_output

    # the paper's 130 M: 1001 classes, a stored table, a variance, no weights in norms
    papers = found - 25 * norm_parameters * D
    papers += 1001 * D + 256 * D + (D + 1) * values_a_patch
    assert papers / 1e6 == pytest.approx(130, abs=0.55)


def test_a_new_block_is_the_identity() -> None:
    new = new_network("dit")
    tokens, embedding = torch.randn(3, 16, 16), torch.randn(3, 16)
    assert torch.equal(new.blocks[0](tokens, embedding, new.table), tokens)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_every_weight_has_a_gradient(positions: str, activation: str) -> None:
    net = network("dit", positions=positions, activation=activation)
    net(*noisy_latents()).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in net.parameters())


@pytest.mark.parametrize(("patch_size", "num_tokens"), [(1, 64), (2, 16), (8, 1)])
def test_a_patch_is_a_token_and_returns_to_its_place(
    patch_size: int, num_tokens: int
) -> None:
    """Without blocks, a patch of the output depends on the same patch of the input alone."""
    net = network("dit", patch_size=patch_size, depth=0)
    assert net.table.shape == (2, num_tokens, 8)
    x, c_noise = noisy_latents(1)
    for row, column in [(0, 0), (3, 6), (7, 1)]:
        changed = x.clone()
        changed[0, 1, row, column] += 1
        moved = (net(changed, c_noise) - net(x, c_noise))[0].abs().amax(0) > 0
        expected = torch.zeros(8, 8, dtype=torch.bool)
        top, left = (i // patch_size * patch_size for i in (row, column))
        expected[top : top + patch_size, left : left + patch_size] = True
        assert torch.equal(moved, expected)


def shuffled(x: Tensor, order: Tensor) -> Tensor:
    """Put the 2x2 patches of images of 8x8 in another order."""
    patches = F.unfold(x, 2, stride=2)
    return F.fold(patches[:, :, order], (8, 8), 2, stride=2)


@pytest.mark.parametrize("positions", POSITIONS)
def test_the_table_alone_tells_positions_apart_and_is_no_weight(positions: str) -> None:
    net = network("dit", positions=positions)
    assert not [name for name in net.state_dict() if "table" in name]
    x, c_noise = noisy_latents()
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))

    def error() -> float:
        difference = net(shuffled(x, order), c_noise) - shuffled(net(x, c_noise), order)
        return difference.abs().max().item()

    assert error() > 1e-2
    if positions == "rotary":
        net.table = torch.tensor([1.0, 0.0])[:, None, None].expand_as(net.table)
    else:
        net.table = torch.zeros_like(net.table)
    assert error() < 1e-5


def places(side: int) -> tuple[Tensor, Tensor]:
    """Return column and row of each place, ``(side * side, 1)``, by row."""
    number = torch.arange(float(side**2))[:, None]
    return number % side, number // side


def test_sinusoidal_positions_are_sines_and_cosines_of_column_and_row() -> None:
    frequencies = 10_000 ** (-torch.arange(4) / 4)
    waves = [
        wave(place * frequencies)
        for place in places(3)
        for wave in (torch.sin, torch.cos)
    ]
    torch.testing.assert_close(sinusoidal_positions(3, 16), torch.cat(waves, 1))


def test_rotary_positions_are_angles_of_column_and_row_for_pairs() -> None:
    frequencies = torch.tensor([1, 1, 10_000**-0.5, 10_000**-0.5])
    angles = torch.cat([place * frequencies for place in places(3)], 1)
    expected = torch.stack([angles.cos(), angles.sin()])
    torch.testing.assert_close(rotary_positions(3, 8), expected)


def turned(x: Tensor, rotation: Tensor) -> Tensor:
    """Turn pairs of channels of ``(N, D)`` as complex numbers."""
    cosines, sines = rotation[:, :, ::2].double()
    pairs = torch.view_as_complex(x.double().unflatten(1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * torch.complex(cosines, sines)).flatten(1)


@pytest.mark.parametrize("rotates", [True, False])
def test_attention_is_softmax_over_tokens_for_each_head(rotates: bool) -> None:
    torch.manual_seed(0)
    attention, x = Attention(16, 8), torch.randn(2, 9, 16)
    rotation = rotary_positions(3, 8) if rotates else None
    q, k, v = attention.qkv(x).detach().double().split(16, dim=2)
    expected = torch.empty(2, 9, 16, dtype=torch.float64)
    for b in range(2):
        for head in range(2):
            own = slice(8 * head, 8 * head + 8)
            query, key = q[b, :, own], k[b, :, own]
            if rotation is not None:
                query, key = turned(query, rotation), turned(key, rotation)
            weights = (query @ key.T / math.sqrt(8)).softmax(1)
            expected[b, :, own] = weights @ v[b, :, own]
    found = attention(x, rotation)
    torch.testing.assert_close(found, attention.project(expected.float()))


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_a_block_is_its_formula(activation: Any) -> None:
    torch.manual_seed(0)
    block = DiTBlock(
        8, 4, activation=activation, norm="non_scaling_layer_norm", dropout=0.0
    )
    for p in block.parameters():
        nn.init.normal_(p, std=0.3)
    x, embedding, rotation = (
        torch.randn(2, 4, 8),
        torch.randn(2, 8),
        rotary_positions(2, 4),
    )

    def normed(h: Tensor, bias: Tensor) -> Tensor:
        variance = h.var(2, correction=0, keepdim=True)
        return (h - h.mean(2, keepdim=True)) / (variance + 1e-5).sqrt() + bias

    def activated(h: Tensor) -> Tensor:
        if activation == "relu":
            return h * (h > 0)
        inner = math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)
        return 0.5 * h * (1 + inner.tanh())

    given = embedding @ block.modulation.weight.T + block.modulation.bias
    parts = given.reshape(2, 2, 3, 1, 8)  # sample, branch, role, token, channel
    h = x
    for number, norm in enumerate((block.norm0, block.norm1)):
        scale, shift, gate = parts[:, number].unbind(1)
        y = (1 + scale) * normed(h, norm.bias) + shift
        if number == 0:
            y = block.attention(y, rotation)
        else:
            y = block.mlp[3](activated(block.mlp[0](y)))
        h = h + gate * y
    torch.testing.assert_close(block(x, embedding, rotation), h)


@pytest.mark.parametrize("shape", [(2, 8, 4), (2, 6, 6)])
def test_latents_that_do_not_fit_are_refused_with_their_size(
    shape: tuple[int, int, int],
) -> None:
    with pytest.raises(ValueError, match=f"multiple of 4, got {shape[1]}x{shape[2]}"):
        new_network("dit", sample_shape=shape, patch_size=4)


@pytest.mark.parametrize(("width", "head_width"), [(32, 12), (36, 6)])
def test_widths_that_do_not_divide_are_refused(width: int, head_width: int) -> None:
    with pytest.raises(ValueError, match=f"width={width} .*head_width={head_width}"):
        new_network("dit", width=width, head_width=head_width)


@pytest.mark.parametrize("name", ["group_norm", "non_scaling_instance_norm"])
@pytest.mark.parametrize("which", ["norm", "output_norm"])
def test_norms_over_positions_are_refused(name: NormName, which: str) -> None:
    with pytest.raises(ValueError, match=f"affine_layer_norm, rms_norm: {name}"):
        new_network("dit", **{which: name})


@pytest.mark.parametrize("positions", POSITIONS)
def test_the_residual_stream_is_float32_under_autocast(positions: str) -> None:
    net = network("dit", positions=positions)
    streams: list[torch.dtype] = []
    for block in net.blocks:
        block.register_forward_hook(lambda *given: streams.append(given[2].dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        net(*noisy_latents())
    assert streams == [torch.float32]
