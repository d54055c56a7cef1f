from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn

from lct_pipeline.core.ema import EMABank, Track, gamma_of

RATES = (0.5, 0.9, 0.999)
WIDTHS = (0.05, 0.1, 0.2)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def bank_of(net: nn.Module) -> EMABank:
    return EMABank(net, RATES, WIDTHS)


def walk(net: nn.Module) -> None:
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn_like(p))


def test_tracks_have_readable_names() -> None:
    names = [track.name for track in EMABank(network(), (0.998,), (0.05,)).tracks]
    assert names == ["ema-0.998", "power-0.05"]


@pytest.mark.parametrize(
    ("kind", "value"), [("rate", 0.0), ("rate", 1.0), ("power", 0.0), ("power", 0.29)]
)
def test_a_value_out_of_range_is_refused(
    kind: Literal["rate", "power"], value: float
) -> None:
    with pytest.raises(ValueError, match=str(value)):
        Track(kind, value)


@pytest.mark.parametrize("rate", RATES)
def test_a_rate_track_is_the_recursion_in_float64(rate: float) -> None:
    net = network()
    bank = bank_of(net)
    slow = {name: p.detach().double() for name, p in net.named_parameters()}
    for step in range(1, 21):
        walk(net)
        bank.update(step)
        for name, p in net.named_parameters():
            slow[name] = rate * slow[name] + (1 - rate) * p.detach().double()
    for name, average in bank.tracks[Track("rate", rate)].items():
        np.testing.assert_allclose(average, slow[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_power_track_is_the_mean_weighted_by_a_power_of_the_step(
    width: float,
) -> None:
    net = network()
    bank = bank_of(net)
    rows, num_steps = [], 300
    for step in range(1, num_steps + 1):
        walk(net)
        bank.update(step)
        rows.append(net.get_parameter("0.weight").detach().double())
    # the integral of t^gamma over each step; t^gamma itself differs at the first steps
    steps = np.arange(1, num_steps + 1)
    exponent = gamma_of(width) + 1
    weights = steps**exponent - (steps - 1) ** exponent
    expected = np.average(rows, axis=0, weights=weights)
    average = bank.tracks[Track("power", width)]["0.weight"]
    np.testing.assert_allclose(average, expected, rtol=1e-4, atol=1e-4)


def test_frozen_parameters_are_followed() -> None:
    net = network()
    net.get_parameter("0.weight").requires_grad_(False)
    bank = bank_of(net)
    walk(net)
    bank.update(1)
    averages = bank.tracks[Track("power", 0.1)]
    assert set(averages) == {name for name, _ in net.named_parameters()}
    assert torch.equal(averages["0.weight"], net.get_parameter("0.weight"))


def test_state_dict_has_averaged_parameters_and_present_buffers() -> None:
    net = network()
    bank = bank_of(net)
    walk(net)
    bank.update(1)
    net.get_buffer("1.running_mean").fill_(7.0)
    track = Track("rate", 0.9)
    state = bank.state_dict(track, net)
    assert list(state) == list(net.state_dict())
    assert torch.equal(state["0.weight"], bank.tracks[track]["0.weight"])
    assert (state["1.running_mean"] == 7).all()
    other = network()
    other.load_state_dict(state)


def test_a_missing_or_misshapen_tensor_is_named() -> None:
    bank = bank_of(network())
    track = Track("rate", 0.9)
    saved = dict(bank.tracks[track])
    with pytest.raises(ValueError, match=r"ema-0\.9.*'0\.bias'"):
        bank.load(track, {**saved, "0.bias": torch.zeros(1)})
    del saved["2.weight"]
    with pytest.raises(ValueError, match=r"'2\.weight'"):
        bank.load(track, saved)
