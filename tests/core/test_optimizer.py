from __future__ import annotations

import math
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from lct_pipeline.core.ema import EMABank
from lct_pipeline.core.flat_weights import FlatWeights
from lct_pipeline.core.optimizer import Optimizer, OptimizerSettings, rectification

RATE, DECAY, WARMUP, CLIP = 3e-2, 0.02, 7, 0.5
Name = Literal["radam", "adamw"]
both = pytest.mark.parametrize("name", ["radam", "adamw"])


def network() -> nn.Sequential:
    """Return layers of float64, of which the second's weights are frozen."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 4), nn.Linear(4, 2)).double()
    net.get_parameter("1.weight").requires_grad_(False)
    return net


def trained(net: nn.Module) -> list[nn.Parameter]:
    return [p for p in net.parameters() if p.requires_grad]


def gradients(net: nn.Module, step: int) -> list[Tensor]:
    """Return a gradient of each trained parameter; from step to step their scales differ."""
    generator = torch.Generator().manual_seed(step)
    return [
        10.0 ** (step % 5 - 3)
        * torch.randn(p.shape, generator=generator, dtype=p.dtype)
        for p in trained(net)
    ]


class Flat:
    """A network whose weights one vector holds, with its optimiser and averages."""

    def __init__(self, name: Name, clip_norm: float | None = None) -> None:
        self.net = network()
        self.weights = FlatWeights(self.net)
        settings = OptimizerSettings(name, RATE, DECAY, WARMUP, clip_norm)
        self.optimizer = Optimizer(settings, self.weights)
        self.bank = EMABank(self.weights, (0.9,), (0.1,))

    def step(self, step: int) -> None:
        self.weights.gradient.zero_()
        for p, gradient in zip(
            trained(self.net), gradients(self.net, step), strict=True
        ):
            (p * gradient).sum().backward()
        norm = self.weights.gradient.norm().item()
        self.optimizer.step(step, norm)
        self.bank.update(step + 1)


class Plain:
    """The same by torch's optimiser, tensor by tensor."""

    def __init__(self, name: Name, clip_norm: float | None = None) -> None:
        self.net, self.clip_norm = network(), clip_norm
        kinds: dict[str, Any] = {
            "radam": torch.optim.RAdam,
            "adamw": torch.optim.AdamW,
        }
        self.optimizer = kinds[name](trained(self.net), weight_decay=DECAY)
        self.tensors = [p.detach() for p in self.net.parameters()]

    def step(self, step: int) -> None:
        for p, gradient in zip(
            trained(self.net), gradients(self.net, step), strict=True
        ):
            p.grad = gradient
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(trained(self.net), self.clip_norm)
        self.optimizer.param_groups[0]["lr"] = RATE * min(1, (step + 1) / WARMUP)
        self.optimizer.step()


def assert_close(found: Any, expected: Any) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


@both
@pytest.mark.parametrize("clip_norm", [None, CLIP])
def test_weights_and_averages_are_those_of_torch_tensor_by_tensor(
    name: Name, clip_norm: float | None
) -> None:
    flat, plain = Flat(name, clip_norm), Plain(name, clip_norm)
    tracks = flat.bank.tracks
    averages = {track: [p.clone() for p in plain.tensors] for track in tracks}
    for step in range(40):
        flat.step(step)
        plain.step(step)
        for track, average in averages.items():
            torch._foreach_lerp_(average, plain.tensors, 1 - track.beta(step + 1))
    assert_close([p.detach() for p in flat.net.parameters()], plain.tensors)
    assert not torch.equal(plain.tensors[0], network()[0].weight)
    names = [name for name, _ in plain.net.named_parameters()]
    for track, average in averages.items():
        assert_close([tracks[track][name] for name in names], average)


@both
def test_it_goes_on_from_the_state_that_torchs_own_optimiser_saved(name: Name) -> None:
    flat, other, plain = Flat(name), Flat(name), Plain(name)
    for step in range(9):
        flat.step(step)
        plain.step(step)
    saved = {
        f"{index}.{key}": value
        for index, moments in plain.optimizer.state_dict()["state"].items()
        for key, value in moments.items()
    }
    assert_close(flat.optimizer.state_tensors(), saved)
    other.net.load_state_dict(plain.net.state_dict())
    other.optimizer.load_state(saved)
    for step in range(9, 14):
        flat.step(step)
        other.step(step)
    assert_close(other.weights.vector, flat.weights.vector)


@pytest.mark.parametrize("t", [1, 5, 6, 30, 1000])
def test_rectification_is_the_ratio_of_the_papers_standard_deviations(t: int) -> None:
    # the SMA of length rho has variance rho / (2 (rho - 2) (rho - 4)) up to a factor (eq. 6)
    weights = [0.999 ** (t - i) for i in range(1, t + 1)]
    mean_age = sum(w * (t - i) for i, w in enumerate(weights, 1)) / sum(weights)
    length, longest = 2 * mean_age + 1, 2 / (1 - 0.999) - 1
    variance = [rho / ((rho - 2) * (rho - 4)) for rho in (longest, length)]
    expected = math.sqrt(variance[0] / variance[1]) if length > 5 else 0
    assert rectification(t, 0.999) == pytest.approx(expected, rel=1e-9)
