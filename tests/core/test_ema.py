from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from lct_pipeline.core.ema import EMATracks, ema_profile
from lct_pipeline.core.linear_combination import WeightLayout, combine

RATES = (0.5, 0.9, 0.999)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def walk(net: nn.Module) -> None:
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn_like(p))


def test_tracks_start_as_copies_of_the_weights() -> None:
    net = network()
    tracks = EMATracks(net, RATES).tracks
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    walk(net)
    for rate in RATES:
        assert all(torch.equal(tracks[rate][name], before[name]) for name in before)


@pytest.mark.parametrize("rate", RATES)
def test_each_track_is_the_recursion_in_float64(rate: float) -> None:
    net = network()
    ema = EMATracks(net, RATES)
    slow = {name: p.detach().double() for name, p in net.named_parameters()}
    for _ in range(20):
        walk(net)
        ema.update()
        for name, p in net.named_parameters():
            slow[name] = rate * slow[name] + (1 - rate) * p.detach().double()
    for name, average in ema.tracks[rate].items():
        np.testing.assert_allclose(average, slow[name], rtol=1e-4, atol=1e-6)


def test_state_dict_has_averaged_parameters_and_present_buffers() -> None:
    net = network()
    ema = EMATracks(net, RATES)
    walk(net)
    ema.update()
    net[1].running_mean.fill_(7.0)
    state = ema.state_dict(0.9, net)
    assert list(state) == list(net.state_dict())
    assert torch.equal(state["0.weight"], ema.tracks[0.9]["0.weight"])
    assert (state["1.running_mean"] == 7).all()
    other = network()
    other.load_state_dict(state)


def test_a_loaded_track_goes_on_as_the_saved_one() -> None:
    net = network()
    ema = EMATracks(net, (0.9,))
    walk(net)
    ema.update()
    saved = {name: t.clone() for name, t in ema.tracks[0.9].items()}
    continued = EMATracks(net, (0.9,))
    continued.load(0.9, saved)
    walk(net)
    ema.update()
    continued.update()
    for name, average in ema.tracks[0.9].items():
        assert torch.equal(average, continued.tracks[0.9][name])


@pytest.mark.parametrize("rate", [0.1, 0.9, 0.99993])
def test_profile_sums_to_one_without_negative_coefficients(rate: float) -> None:
    steps = np.array([50, 100, 175, 1000, 1050])
    alpha = ema_profile(steps, rate)
    assert alpha.shape == (5,)
    assert alpha.sum() == pytest.approx(1, abs=1e-12)
    assert (alpha >= 0).all()


def test_profile_is_the_sum_of_what_the_ema_gives_to_the_steps_between() -> None:
    steps, rate = np.array([3, 5, 9]), 0.8
    shares = {k: (1 - rate) * rate ** (9 - k) for k in range(1, 10)}
    between = [(4, 5), (6, 9)]
    expected = [sum(shares[k] for k in range(a, b + 1)) for a, b in between]
    alpha = ema_profile(steps, rate)
    np.testing.assert_allclose(alpha[1:], expected, rtol=1e-12)
    assert alpha[0] == pytest.approx(1 - sum(expected))


@pytest.mark.parametrize("rate", [0.5, 0.9, 0.99])
def test_profile_reproduces_the_ema_when_every_step_is_a_checkpoint(
    rate: float,
) -> None:
    net = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2))
    layout = WeightLayout.of(net.state_dict())
    ema = EMATracks(net, (rate,))
    rows = [layout.flatten(net.state_dict())]
    for _ in range(30):
        walk(net)
        ema.update()
        rows.append(layout.flatten(net.state_dict()))
    alpha = ema_profile(np.arange(31), rate)
    combined = combine(np.stack(rows), alpha[None], block_size=7)[0]
    average = layout.flatten(ema.state_dict(rate, net))
    np.testing.assert_allclose(combined, average, rtol=1e-4, atol=1e-5)
