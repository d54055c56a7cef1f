from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lct_pipeline.models.norms import NonScalingLayerNorm, NormName, build_norm

NAMES: list[NormName] = ["non_scaling_layer_norm", "layer_norm", "group_norm"]
SHAPES = [(16, 4, 4), (32,)]


def values(shape: tuple[int, ...], size: int = 5) -> Tensor:
    return 3 + 2 * torch.randn(size, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", SHAPES)
def test_non_scaling_norm_is_torchs_layer_norm_of_unit_scale(
    shape: tuple[int, ...],
) -> None:
    norm, torchs = NonScalingLayerNorm(shape), nn.LayerNorm(shape, eps=1e-5)
    bias = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        norm.bias.copy_(bias)
        torchs.bias.copy_(bias)
    torch.testing.assert_close(norm(values(shape)), torchs(values(shape)))


@pytest.mark.parametrize("shape", SHAPES)
def test_non_scaling_norm_is_the_formula(shape: tuple[int, ...]) -> None:
    norm = NonScalingLayerNorm(shape)
    nn.init.normal_(norm.bias)
    x = values(shape).double()
    axes = tuple(range(1, x.ndim))
    mean = x.mean(axes, keepdim=True)
    variance = (x - mean).square().mean(axes, keepdim=True)
    expected = (x - mean) / (variance + 1e-5).sqrt() + norm.bias.double()
    torch.testing.assert_close(
        norm(values(shape)).double(), expected, atol=1e-5, rtol=0
    )


def test_non_scaling_norm_learns_a_bias_per_element_and_no_scale() -> None:
    parameters = dict(NonScalingLayerNorm((4, 3, 3)).named_parameters())
    assert list(parameters) == ["bias"]
    assert parameters["bias"].shape == (4, 3, 3)
    assert (parameters["bias"] == 0).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_norm_ignores_shift_and_scale_of_a_sample(
    name: NormName, shape: tuple[int, ...]
) -> None:
    norm = build_norm(name, shape)
    x = values(shape)
    torch.testing.assert_close(norm(7 * x - 2), norm(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_every_norm_treats_samples_apart(name: NormName) -> None:
    norm = build_norm(name, (16, 4, 4))
    x = values((16, 4, 4))
    torch.testing.assert_close(norm(x)[1:2], norm(x[1:2]))


@pytest.mark.parametrize(
    ("channels", "groups"), [(8, 2), (16, 4), (128, 32), (256, 32)]
)
def test_group_norm_has_four_channels_or_more_a_group(
    channels: int, groups: int
) -> None:
    norm, torchs = (
        build_norm("group_norm", (channels, 4, 4)),
        nn.GroupNorm(groups, channels),
    )
    x = values((channels, 4, 4))
    torch.testing.assert_close(norm(x), torchs(x))
