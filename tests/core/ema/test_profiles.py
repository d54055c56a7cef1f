from __future__ import annotations

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

PROFILES = [
    Profile.power(70, 0.05),
    Profile.power(70, 0.25),
    Profile.rate(70, 0.95),
    Profile.box(20, 70),
]
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


@pytest.mark.parametrize("width", [0.0, -0.1, 0.2887, 0.3])
def test_a_width_without_gamma_is_refused(width: float) -> None:
    with pytest.raises(ValueError, match=str(width)):
        gamma_of(width)


@pytest.mark.parametrize("track", [Track("rate", 0.8), Track("power", 0.1)])
@pytest.mark.parametrize("num_steps", [1, 2, 40])
def test_shares_are_those_of_the_recursion(track: Track, num_steps: int) -> None:
    # the weights after step j are the j-th unit vector, so the average holds its own shares
    units = torch.eye(num_steps + 1, dtype=torch.float64)
    net = nn.Linear(num_steps + 1, 1, bias=False, dtype=torch.float64)
    net.weight.data.copy_(units[:1])
    bank = EMABank(net, (0.8,), (0.1,))
    for step in range(1, num_steps + 1):
        net.weight.data.copy_(units[step : step + 1])
        bank.update(step)
    average = bank.tracks[track]["weight"][0]
    expected = shares(track.profile(num_steps), num_steps)
    np.testing.assert_allclose(average, expected, rtol=1e-10, atol=1e-15)


def test_a_box_holds_its_steps_equally() -> None:
    np.testing.assert_allclose(shares(Profile.box(3, 7), 8), [0] * 4 + [0.25] * 4 + [0])


@pytest.mark.parametrize("profile", PROFILES)
def test_quantile_is_the_inverse_of_the_cumulative_share(profile: Profile) -> None:
    u = np.linspace(0.1, 1, 10)
    np.testing.assert_allclose(profile.cumulative(profile.quantile(u)), u, rtol=1e-12)


def test_what_is_no_profile_is_refused() -> None:
    with pytest.raises(ValueError, match="after 5 up to 5"):
        Profile.box(5, 5)
    with pytest.raises(ValueError, match="after 0 up to 0"):
        Profile.power(0, 0.1)
    with pytest.raises(ValueError, match="rate"):
        Profile.rate(10, 1.0)
    with pytest.raises(ValueError, match="after 20 up to 10"):
        raw_basis([20, 10])
    with pytest.raises(ValueError, match="no profiles"):
        posthoc_coefficients([], Profile.rate(10, 0.9))


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


def walked_averages(num_steps: int) -> dict[tuple[Track, int], np.ndarray]:
    """Return all power tracks of a random walk in 256 dimensions after every step."""
    generator = torch.Generator().manual_seed(0)
    net = nn.Linear(256, 1, bias=False, dtype=torch.float64)
    bank = EMABank(net, (), (*WIDTHS, 0.08))
    stored = {}
    for step in range(1, num_steps + 1):
        net.weight.data += torch.randn(1, 256, generator=generator, dtype=torch.float64)
        bank.update(step)
        for track, averages in bank.tracks.items():
            stored[track, step] = averages["weight"][0].numpy().copy()
    return stored


@pytest.mark.parametrize(
    ("end", "error"),
    [
        (1600, 4e-4),  # found 8e-5
        (1200, 1e-3),  # found 2e-4
        (1250, 2e-2),  # found 6e-3: no snapshot ends there
    ],
)
def test_any_width_and_time_is_rebuilt_from_snapshots_of_two_tracks(
    end: int, error: float
) -> None:
    averages = walked_averages(1600)
    keys = [(Track("power", w), s) for s in range(100, 1601, 100) for w in WIDTHS]
    matrix = np.stack([averages[key] for key in keys])  # (32, 256)
    wanted = Track("power", 0.08)
    basis = [track.profile(step) for track, step in keys]
    rebuilt = posthoc_coefficients(basis, wanted.profile(end)) @ matrix
    tracked = averages[wanted, end]
    distance = np.linalg.norm(rebuilt - tracked)
    nearest = np.linalg.norm(matrix - tracked, axis=1).min()
    assert distance < error * np.linalg.norm(tracked)
    assert distance < nearest / 5
