from __future__ import annotations

from typing import get_args

import pytest
import torch
from describing import perturbed
from torch import Tensor, nn

from lct_pipeline.models.norms import NormName, build_norm

NAMES: tuple[NormName, ...] = get_args(NormName)
SHAPES = [(16, 4, 4), (32,)]
CASES = [
    (name, shape)
    for name in NAMES
    for shape in SHAPES
    if len(shape) > 1 or "instance" not in name
]


def values(shape: tuple[int, ...], size: int = 5) -> Tensor:
    return 3 + 2 * torch.randn(size, *shape, generator=torch.Generator().manual_seed(0))


def plain(name: NormName, norm: nn.Module, x: Tensor) -> Tensor:
    """The norm by its formula, a group of channels of a sample at a time, in float64."""
    x = x.double()
    size = {"layer": x.shape[1], "rms": x.shape[1], "group": 4, "instance": 1}
    kind = name.removeprefix("non_scaling_").removesuffix("_norm")
    y = torch.empty_like(x)
    for sample in range(len(x)):
        for start in range(0, x.shape[1], size[kind]):
            own = x[sample, start : start + size[kind]]
            centred = own if kind == "rms" else own - own.mean()
            power = centred.square().mean()
            y[sample, start : start + size[kind]] = centred / (power + 1e-5).sqrt()
    trailing = [1] * (x.ndim - 2) if kind in ("group", "instance") else []
    for parameter, weight in norm.named_parameters():
        given = weight.detach().double()
        given = given.reshape(*given.shape, *trailing)
        y = y * given if parameter == "weight" else y + given
    return y


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_every_norm_is_its_formula(name: NormName, shape: tuple[int, ...]) -> None:
    norm, x = perturbed(build_norm(name, shape)), values(shape)
    expected = plain(name, norm, x)
    torch.testing.assert_close(norm(x).double(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "learned"),
    [
        ("non_scaling_layer_norm", {"bias": (16, 4, 4)}),
        ("layer_norm", {"weight": (16, 4, 4), "bias": (16, 4, 4)}),
        ("group_norm", {"weight": (16,), "bias": (16,)}),
        ("non_scaling_group_norm", {"bias": (16,)}),
        ("instance_norm", {"weight": (16,), "bias": (16,)}),
        ("non_scaling_instance_norm", {"bias": (16,)}),
        ("rms_norm", {"weight": (16, 4, 4)}),
    ],
)
def test_a_norm_learns_what_its_name_says_from_one_and_zero(
    name: NormName, learned: dict[str, tuple[int, ...]]
) -> None:
    state = build_norm(name, (16, 4, 4)).state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == learned
    for key, value in state.items():
        assert (value == {"weight": 1, "bias": 0}[key]).all()


@pytest.mark.parametrize(
    ("channels", "groups"), [(8, 2), (16, 4), (128, 32), (256, 32)]
)
def test_group_norm_has_four_channels_or_more_a_group(
    channels: int, groups: int
) -> None:
    x = values((channels, 4, 4))
    expected = nn.GroupNorm(groups, channels)(x)
    assert torch.equal(build_norm("group_norm", (channels, 4, 4))(x), expected)


@pytest.mark.parametrize("name", ["instance_norm", "non_scaling_instance_norm"])
@pytest.mark.parametrize("shape", [(32,), (32, 1, 1)])
def test_an_instance_of_one_position_is_refused(
    name: NormName, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=rf"^{name} .*\({shape[0]},.*only one"):
        build_norm(name, shape)


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_is_normalised_in_float32_and_returned(name: NormName) -> None:
    norm = perturbed(build_norm(name, (16, 4, 4)))
    x = (1e4 + 320 * values((16, 4, 4))).bfloat16()  # neighbours are 64 apart there
    y = norm(x)
    assert y.dtype == torch.bfloat16
    rounding = 2**-8  # relative, of a bfloat16
    expected = plain(name, norm, x)
    torch.testing.assert_close(y.double(), expected, atol=1e-4, rtol=rounding)


@pytest.mark.parametrize("name", NAMES)
def test_autocast_changes_nothing(name: NormName) -> None:
    norm = perturbed(build_norm(name, (16, 4, 4)))
    x = 1e4 + values((16, 4, 4))
    assert x.bfloat16().unique().numel() == 1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = norm(x)
    assert y.dtype == torch.float32
    assert torch.equal(y, norm(x))
