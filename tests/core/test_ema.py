from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lct_pipeline.core.ema import (
    EMABank,
    Profile,
    Track,
    gamma_of,
    posthoc_coefficients,
    raw_basis,
    width_of,
)
from lct_pipeline.core.flat_weights import FlatWeights


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


WIDTHS = (0.05, 0.1)  # of the stored tracks, as in EDM2


def shares(profile: Profile, num_steps: int) -> np.ndarray:
    """Return p(0), ..., p(num_steps)."""
    return np.diff(profile.cumulative(np.arange(-1, num_steps + 1)))


def snapshots(steps: range) -> list[Profile]:
    return [Profile.power(step, width) for step in steps for width in WIDTHS]


@pytest.mark.parametrize(
    ("width", "gamma"),
    [(0.05, 16.97), (0.1, 6.94), (0.15, 3.56), (0.2, 1.83), (0.25, 0.72)],
)
def test_gamma_is_as_published(width: float, gamma: float) -> None:
    assert gamma_of(width) == pytest.approx(gamma, abs=0.005)


@pytest.mark.parametrize("gamma", [0.0, 0.7, 6.94])
def test_width_is_the_standard_deviation_of_the_power_function(gamma: float) -> None:
    t = (np.arange(100_000) + 0.5) / 100_000
    mean = np.average(t, weights=t**gamma)
    deviation = np.sqrt(np.average((t - mean) ** 2, weights=t**gamma))
    assert width_of(gamma) == pytest.approx(deviation, rel=1e-6)


@pytest.mark.parametrize("track", [Track("rate", 0.8), Track("power", 0.1)])
@pytest.mark.parametrize("num_steps", [1, 2, 40])
def test_shares_are_those_of_the_recursion(track: Track, num_steps: int) -> None:
    # the weights after step j are the j-th unit vector, so the average holds its own shares
    units = torch.eye(num_steps + 1, dtype=torch.float64)
    net = nn.Linear(num_steps + 1, 1, bias=False, dtype=torch.float64)
    net.weight.data.copy_(units[:1])
    bank = EMABank(FlatWeights(net), (0.8,), (0.1,))
    for step in range(1, num_steps + 1):
        net.weight.data.copy_(units[step : step + 1])
        bank.update(step)
    average = bank.tracks[track]["weight"][0]
    expected = shares(track.profile(num_steps), num_steps)
    np.testing.assert_allclose(average, expected, rtol=1e-10, atol=1e-15)


def test_a_box_holds_its_steps_equally() -> None:
    np.testing.assert_allclose(shares(Profile.box(3, 7), 8), [0] * 4 + [0.25] * 4 + [0])


@pytest.mark.parametrize("scale", [1, 300])
def test_a_member_of_the_basis_is_found(scale: int) -> None:
    steps = range(100 * scale, 1001 * scale, 100 * scale)
    basis = [*snapshots(steps), *(Profile.rate(s, 0.99) for s in steps)]
    for k in (0, 7, 19, 25):
        alpha = posthoc_coefficients(basis, basis[k])
        np.testing.assert_allclose(alpha, np.eye(len(basis))[k], atol=1e-9)


def test_no_combination_of_sum_one_is_closer() -> None:
    basis, target = snapshots(range(50, 401, 50)), Profile.rate(400, 0.98)
    p = np.stack([shares(b, 400) for b in basis], axis=1)
    alpha = posthoc_coefficients(basis, target)

    def distance(alpha: np.ndarray) -> float:
        return float(np.linalg.norm(p @ alpha - shares(target, 400)))

    free = np.linalg.lstsq(p, shares(target, 400), rcond=None)[0]
    assert distance(free) <= distance(alpha) < distance(free / free.sum())
    rng = np.random.default_rng(0)
    for _ in range(20):
        change = rng.standard_normal(len(basis))
        assert distance(alpha + 1e-4 * (change - change.mean())) > distance(alpha)


@pytest.mark.parametrize(
    "target",
    [
        Profile.rate(60_000, 0.9995),
        Profile.rate(60_000, 0.9),
        Profile.box(31_000, 45_000),
    ],
)
def test_many_steps_agree_with_the_sum_over_single_steps(
    target: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = range(6_000, 60_001, 6_000)
    basis = [
        *(Profile.rate(s, 0.99) for s in ends),
        *(Profile.rate(s, 0.9999) for s in ends),
        *raw_basis(list(ends)),
    ]
    cells = posthoc_coefficients(basis, target)
    monkeypatch.setattr("lct_pipeline.core.ema.MAX_CELLS", 100_000)
    single = posthoc_coefficients(basis, target)
    np.testing.assert_allclose(cells, single, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("rate", [0.1, 0.9, 0.99993])
@pytest.mark.parametrize("scale", [1, 100])
def test_raw_checkpoints_get_what_a_rate_gives_to_the_steps_between(
    rate: float, scale: int
) -> None:
    steps = [scale * s for s in (50, 100, 175, 1000, 1050)]
    target = Profile.rate(steps[-1], rate)
    alpha = posthoc_coefficients(raw_basis(steps), target)
    p = shares(target, steps[-1])
    expected = [part.sum() for part in np.split(p, np.array(steps[:-1]) + 1)]
    np.testing.assert_allclose(alpha, expected, atol=1e-12)


def test_a_state_dict_has_averaged_parameters_and_present_buffers() -> None:
    net = network()
    net.get_parameter("0.weight").requires_grad_(False)  # followed all the same
    bank = EMABank(FlatWeights(net), (0.998,), (0.05,))
    with torch.no_grad():
        net.get_parameter("0.weight").fill_(3.0)
    bank.update(1)
    net.get_buffer("1.running_mean").fill_(7.0)
    rate, power = bank.tracks
    assert (rate.name, power.name) == ("ema-0.998", "power-0.05")
    state = bank.state_dict(power, net)
    assert list(state) == list(net.state_dict())
    assert (state["0.weight"] == 3).all()
    assert not (bank.state_dict(rate, net)["0.weight"] == 3).any()
    assert (state["1.running_mean"] == 7).all()
    network().load_state_dict(state)


def test_a_missing_or_misshapen_tensor_is_named() -> None:
    bank, track = EMABank(FlatWeights(network()), (0.9,), ()), Track("rate", 0.9)
    saved = dict(bank.tracks[track])
    with pytest.raises(ValueError, match=r"ema-0\.9.*'0\.bias'"):
        bank.load(track, {**saved, "0.bias": torch.zeros(1)})
    del saved["2.weight"]
    with pytest.raises(ValueError, match=r"'2\.weight'"):
        bank.load(track, saved)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: gamma_of(0.0), "0.0"),
        (lambda: gamma_of(-0.1), "-0.1"),
        (lambda: gamma_of(0.2887), "0.2887"),
        (lambda: Track("rate", 0.0), "0.0"),
        (lambda: Track("rate", 1.0), "1.0"),
        (lambda: Track("power", 0.29), "0.29"),
        (lambda: Profile.box(5, 5), "after 5 up to 5"),
        (lambda: Profile.power(0, 0.1), "after 0 up to 0"),
        (lambda: raw_basis([20, 10]), "after 20 up to 10"),
        (lambda: posthoc_coefficients([], Profile.rate(10, 0.9)), "no profiles"),
    ],
)
def test_what_is_no_average_is_refused(make: Callable[[], Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        make()
