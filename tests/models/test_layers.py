from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from describing import perturbed
from torch import Tensor, nn
from torch.nn import functional as F

from lct_pipeline.models.layers import (
    ClassEmbedding,
    LevelEmbedding,
    NormName,
    build_norm,
    sinusoidal_embedding,
)

C_NOISE = 250 * torch.tensor([0.002, 0.5, 1.0, 80.0]).log()


def test_embedding_is_the_formula_of_ddpm() -> None:
    found = sinusoidal_embedding(C_NOISE.double(), 8)
    for row, angle in zip(found.tolist(), C_NOISE.double().tolist(), strict=True):
        frequencies = [10_000 ** (-k / 4) for k in range(4)]
        cosines = [math.cos(angle * f) for f in frequencies]
        sines = [math.sin(angle * f) for f in frequencies]
        assert row == pytest.approx(cosines + sines, abs=1e-9)


def test_neighbouring_levels_of_the_finest_grid_have_distinct_embeddings() -> None:
    roots = torch.linspace(0.002 ** (1 / 7), 80 ** (1 / 7), 641)
    rows = sinusoidal_embedding(250 * (roots**7).log(), 128)
    assert (rows.diff(dim=0).norm(dim=1) > 0.1).all()


def test_the_level_goes_through_two_layers() -> None:
    torch.manual_seed(0)
    embed = LevelEmbedding(8, 12)
    names = ["0.weight", "0.bias", "2.weight", "2.bias"]  # of checkpoints, too
    assert list(embed.state_dict()) == names
    w0, b0, w1, b1 = embed.parameters()
    expected = F.silu(sinusoidal_embedding(C_NOISE, 8) @ w0.T + b0) @ w1.T + b1
    torch.testing.assert_close(embed(C_NOISE), expected)


def test_the_class_adds_its_vector_and_no_label_is_the_last() -> None:
    torch.manual_seed(0)
    classes, embedding = ClassEmbedding(3, 6), torch.randn(4, 6)
    (vectors,) = classes.parameters()
    assert vectors.shape == (4, 6)
    labels = torch.tensor([2, 0, 3, 0])
    for j, label in enumerate(labels.tolist()):
        expected = embedding[j] + vectors[label]
        assert torch.equal(classes(embedding, labels)[j], expected)
    null = torch.full((4,), 3)
    assert torch.equal(classes(embedding, None), classes(embedding, null))


def test_without_classes_nothing_is_learned_nothing_added_and_labels_refused() -> None:
    classes, embedding = ClassEmbedding(0, 6), torch.ones(4, 6)
    assert not classes.state_dict()
    assert classes(embedding, None) is embedding
    with pytest.raises(ValueError, match=r"labels .*num_classes=0"):
        classes(embedding, torch.zeros(4, dtype=torch.int64))


@pytest.mark.parametrize("label", [-1, 4])
def test_a_label_that_is_no_class_is_refused(label: int) -> None:
    with pytest.raises(IndexError):
        ClassEmbedding(3, 6)(torch.ones(1, 6), torch.tensor([label]))


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


# DiT's layer norms and torch's RMS norm have another than the 1e-5 of torch's other norms
EPS = {"non_affine_layer_norm": 1e-6, "rms_norm": torch.finfo(torch.float32).eps}


def plain(name: NormName, norm: nn.Module, x: Tensor) -> Tensor:
    """The norm by its formula, a group of channels of a sample at a time, in float64."""
    x = x.double()
    size = {"layer": x.shape[1], "rms": x.shape[1], "group": 4, "instance": 1}
    kind = name.removesuffix("_norm").split("_")[-1]
    y = torch.empty_like(x)
    for sample in range(len(x)):
        for start in range(0, x.shape[1], size[kind]):
            own = x[sample, start : start + size[kind]]
            centred = own if kind == "rms" else own - own.mean()
            power = centred.square().mean()
            y[sample, start : start + size[kind]] = (
                centred / (power + EPS.get(name, 1e-5)).sqrt()
            )
    trailing = [1] * (x.ndim - 2) if kind in ("group", "instance") else []
    for parameter, weight in norm.named_parameters():
        given = weight.detach().double()
        given = given.reshape(*given.shape, *trailing)
        y = y * given if parameter == "weight" else y + given
    return y


@pytest.mark.parametrize("scale", [1.0, 1e-3])  # at the second eps matters
@pytest.mark.parametrize(("name", "shape"), CASES)
def test_every_norm_is_its_formula(
    name: NormName, shape: tuple[int, ...], scale: float
) -> None:
    norm, x = perturbed(build_norm(name, shape)), scale * values(shape)
    expected = plain(name, norm, x)
    torch.testing.assert_close(norm(x).double(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "learned"),
    [
        ("non_scaling_layer_norm", {"bias": (16, 4, 4)}),
        ("layer_norm", {"weight": (16, 4, 4), "bias": (16, 4, 4)}),
        ("non_affine_layer_norm", {}),
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
