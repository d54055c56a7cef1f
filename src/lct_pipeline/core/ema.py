"""Moving averages of the weights, which share of each step they hold, and averages made afterwards.

Source: Karras et al. 2024 (EDM2), section 3: power-function EMA, its relative width sigma_rel,
and post-hoc EMA, where stored averages are combined into one of any other width. The memory of a
power function grows with training: an average of relative width sigma_rel holds the same fraction
of the training so far at every step, so it forgets the initial weights and needs no rate tuned to
the length of a run.

Profiles are exact for the discrete recursions: the weights w_0 before training are step 0, and an
average is sum_j p(j) w_j with sum_j p(j) = 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from scipy.linalg import helmert
from scipy.optimize import brentq
from torch import Tensor, nn

from lct_pipeline.core.flat_weights import FlatWeights


@dataclass(frozen=True)
class Track:
    """Identity of one average.

    Args:
        kind: ``rate`` for a fixed rate, ``power`` for a power function.
        value: Rate in (0, 1), or relative width sigma_rel in (0, 1/sqrt(12)].

    Raises:
        ValueError: The value is out of range.
    """

    kind: Literal["rate", "power"]
    value: float

    def __post_init__(self) -> None:
        self.profile(1)  # refuses a value out of range

    @property
    def name(self) -> str:
        """Name to read, such as ``ema-0.998`` or ``power-0.05``."""
        return f"{'ema' if self.kind == 'rate' else 'power'}-{self.value}"

    def beta(self, step: int) -> float:
        """Return what remains of the average when the weights after ``step`` >= 1 come in.

        The rate, or (1 - 1/step)^(gamma+1) (EDM2, section 3).
        """
        if self.kind == "rate":
            return self.value
        return (1 - 1 / step) ** (gamma_of(self.value) + 1)

    def profile(self, step: int) -> Profile:
        """Return which share of the steps up to ``step`` >= 1 the average then holds."""
        make = {"rate": Profile.rate, "power": Profile.power}[self.kind]
        return make(step, self.value)


class EMABank:
    """Averages of a network's parameters, e <- beta e + (1 - beta) w after every step.

    Frozen parameters are followed too; buffers are not averaged. The averages start as copies of
    the parameters, on their device; a power function forgets that copy at step 1.

    Args:
        weights: The weights that are followed.
        rates: Fixed rates in (0, 1), one track each.
        widths: Relative widths sigma_rel of power functions in (0, 1/sqrt(12)], one track each.

    Attributes:
        weights: As given.
        tracks: Averages of each track by parameter name; the tensors are changed in place.
    """

    def __init__(
        self, weights: FlatWeights, rates: Iterable[float], widths: Iterable[float]
    ) -> None:
        every = [Track("rate", r) for r in rates] + [Track("power", w) for w in widths]
        tracks = dict.fromkeys(every)
        self.weights = weights
        self._averages = weights.vector.repeat(len(tracks), 1)  # (T, N)
        self.tracks: dict[Track, dict[str, Tensor]] = {
            track: weights.views(average)
            for track, average in zip(tracks, self._averages, strict=True)
        }

    def update(self, step: int) -> None:
        """Take in the network's present parameters.

        Args:
            step: Number of optimiser steps done, 1 after the first.
        """
        shares = [1 - track.beta(step) for track in self.tracks]
        weights = self.weights.vector
        self._averages.lerp_(weights, weights.new_tensor(shares).reshape(-1, 1))

    def state_dict(self, track: Track, network: nn.Module) -> dict[str, Tensor]:
        """Return the network's state dict with the parameters of one track in place.

        The tensors are the bank's and the network's own, not copies.
        """
        return {**network.state_dict(), **self.tracks[track]}

    def load(self, track: Track, tensors: Mapping[str, Tensor]) -> None:
        """Replace the values of one track, as a continued run does.

        Args:
            track: A track of this bank.
            tensors: Averages by parameter name; other names are ignored.

        Raises:
            ValueError: A tensor is missing or has another shape; names it.
        """
        for name, average in self.tracks[track].items():
            if name not in tensors or tensors[name].shape != average.shape:
                shape = tuple(average.shape)
                raise ValueError(f"{track.name}: no tensor {name!r} of shape {shape}")
            average.copy_(tensors[name])


WIDEST = 12**-0.5  # sigma_rel of the plain mean of all steps, gamma = 0
MAX_CELLS = 4096  # up to as many steps the inner products are sums over single steps


def width_of(gamma: float) -> float:
    """Return sigma_rel, the standard deviation of p(t) ~ t^gamma on [0, 1].

    sigma_rel = sqrt((gamma + 1) / ((gamma + 2)^2 (gamma + 3))), for gamma > -1.
    """
    return float(np.sqrt((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3))))


@cache
def gamma_of(width: float) -> float:
    """Return the exponent gamma >= 0 of the power function of relative width ``width``.

    The root of a cubic (EDM2, algorithm 2). Every width also has a root in (-1, -0.38), an
    average that favours old weights; for gamma >= 0 the root is the only one.

    Args:
        width: sigma_rel in (0, 1/sqrt(12)].

    Raises:
        ValueError: The width is out of range.
    """
    if not 0 < width <= WIDEST:
        raise ValueError(f"width sigma_rel must lie in (0, 1/sqrt(12)], not {width}")
    # width_of falls on the whole bracket and stays below 1 / (gamma + 2)
    return float(brentq(lambda gamma: width_of(gamma) - width, -0.3, 1 / width))


@dataclass(frozen=True)
class Profile:
    """The shares p(j) of an average of the weights w_j, as the cumulative share P(j).

    Made by :meth:`power`, :meth:`rate` and :meth:`box`.

    Args:
        kind: Family of P; see :meth:`cumulative`.
        start: The step before the first that has a share, -1 at least.
        end: The last step that has a share.
        value: gamma of a power function, rate of a fixed rate.

    Raises:
        ValueError: No step lies in ``start < j <= end``, or a rate is not in (0, 1).
    """

    kind: Literal["power", "rate"]
    start: int
    end: int
    value: float

    def __post_init__(self) -> None:
        if not -1 <= self.start < self.end:
            raise ValueError(f"no steps after {self.start} up to {self.end}")
        if self.kind == "rate" and not 0 < self.value < 1:
            raise ValueError(f"rate must lie in (0, 1), not {self.value}")

    @classmethod
    def power(cls, step: int, width: float) -> Profile:
        """Return the profile of a power-function track of sigma_rel ``width`` at ``step`` >= 1."""
        return cls("power", start=0, end=step, value=gamma_of(width))

    @classmethod
    def rate(cls, step: int, rate: float) -> Profile:
        """Return the profile of a track of fixed ``rate`` at ``step``, w_0 included."""
        return cls("rate", start=-1, end=step, value=rate)

    @classmethod
    def box(cls, start: int, step: int) -> Profile:
        """Return equal shares of ``start < j <= step``, for which a raw checkpoint stands."""
        return cls("power", start=start, end=step, value=0.0)

    def cumulative(self, steps: np.ndarray) -> np.ndarray:
        """Return P(j), the share of the weights after the steps up to j.

        Power function: (1 - 1/k)^(gamma+1) is what update k leaves of the average, and over the
        updates j+1 ... k the product telescopes to P(j) = (j / k)^(gamma+1). Fixed rate:
        P(j) = rate^(k - j), where P(0) = rate^k is the share of w_0. Box: the power function of
        gamma = 0, from ``start``.

        Args:
            steps: Steps j, any shape.

        Returns:
            P of the same shape, float64: 0 up to ``start``, 1 from ``end`` on.
        """
        j = np.clip(np.asarray(steps, dtype=np.float64), self.start, self.end)
        if self.kind == "power":
            return ((j - self.start) / (self.end - self.start)) ** (self.value + 1)
        return np.where(j > self.start, self.value ** (self.end - j), 0.0)

    def quantile(self, shares: np.ndarray) -> np.ndarray:
        """Return the steps, not rounded, up to which P is ``shares``, in (0, 1]."""
        if self.kind == "power":
            length = self.end - self.start
            return self.start + length * shares ** (1 / (self.value + 1))
        steps = self.end - np.log(shares) / np.log(self.value)
        return np.maximum(steps, self.start)


def raw_basis(steps: Sequence[int]) -> list[Profile]:
    """Return the profiles of raw checkpoints, each standing for the steps since the one before.

    The first stands for all that is older, the weights w_0 before training included.

    Args:
        steps: Increasing training steps of the K checkpoints, the first at least 0.

    Raises:
        ValueError: The steps do not increase, or one is negative.
    """
    starts = [-1, *steps[:-1]]
    return [Profile.box(start, step) for start, step in zip(starts, steps, strict=True)]


def posthoc_coefficients(basis: Sequence[Profile], target: Profile) -> np.ndarray:
    """Return the combination of stored averages that comes closest to another average.

    Post-hoc EMA (EDM2, algorithm 3): the least squares of sum_k alpha_k p_k - p over the
    training steps. EDM2 solves it freely and then divides by the sum; here sum_k alpha_k = 1 is
    a constraint, so the result is the closest of all admissible combinations. alpha is written
    as 1/K plus orthonormal directions of sum 0, and these are solved for directly: normal (KKT)
    equations would square the condition number, which is large for snapshots close together. Of
    equally close combinations the one nearest to 1/K is returned.

    Args:
        basis: Profiles of the K stored averages.
        target: Profile to come close to.

    Returns:
        Coefficients alpha, ``(K,)``, float64, with sum 1; some may be negative.

    Raises:
        ValueError: The basis is empty.
    """
    if not basis:
        raise ValueError("basis has no profiles")
    densities = _densities([*basis, target])
    p, p_target = densities[:, :-1], densities[:, -1]
    mean = np.full(len(basis), 1 / len(basis))
    directions = helmert(len(basis)).T  # (K, K - 1)
    residual = p_target - p @ mean
    weights = np.linalg.lstsq(p @ directions, residual, rcond=None)[0]
    return mean + directions @ weights


def _densities(profiles: Sequence[Profile]) -> np.ndarray:
    """Return the mean density of each cell times the root of its length, ``(cells, profiles)``.

    The scalar product of two columns is the inner product of two profiles.
    """
    borders = _cell_borders(profiles)
    cumulative = np.stack([p.cumulative(borders) for p in profiles], axis=1)
    return np.diff(cumulative, axis=0) / np.sqrt(np.diff(borders))[:, None]


def _cell_borders(profiles: Sequence[Profile]) -> np.ndarray:
    """Return steps between which every profile is nearly constant, increasing.

    All steps where they are few. Else the start, the end and equal quantiles of each profile, so
    that cells are narrow where a profile is steep; step 0 stands alone, since a fixed rate may
    leave much of w_0.
    """
    last = max(p.end for p in profiles)
    if last < MAX_CELLS:
        return np.arange(-1, last + 1)
    num = max(1, MAX_CELLS // len(profiles) - 1)
    shares = np.arange(1, num + 1) / num
    quantiles = [np.floor(p.quantile(shares)) for p in profiles]
    starts = [p.start for p in profiles]
    return np.unique(np.concatenate([[-1.0, 0.0], starts, *quantiles]))
