"""Which noise levels a training step sees: schedules from a step to its pairs t > r.

- ``IndexSchedule``: the table of iCT, adjacent levels of the Karras grid of N(k) intervals;
- ``ContinuousSchedule``: the map from t to r of ECT (Geng et al. 2024), its gap halved each stage;
- ``DiffusionSchedule``: single levels, for the diffusion objective;
- ``TruncatedSchedule``: another schedule above the level t' of TCM.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from lct_pipeline.core.objectives import Levels
from lct_pipeline.core.schedules import (
    curriculum,
    curriculum_stage,
    karras_sigmas,
    level_probabilities,
    small_noise_pairs,
)


class LevelSchedule(Protocol):
    """From a training step to its noise levels."""

    def num_levels(self, step: int) -> int:
        """Return N(k), which grows from stage to stage of the curriculum."""
        ...

    def draw(
        self, step: int, num_samples: int, generator: torch.Generator, above: float
    ) -> Levels:
        """Draw the levels of a step, float64, with t >= ``above``."""
        ...


@dataclass(frozen=True)
class IndexSchedule:
    """iCT's table: N(k) doubles from s0 to s1, levels are log-normal on the grid."""

    sigma_min: float
    sigma_max: float
    rho: float
    s0: int
    s1: int
    P_mean: float
    P_std: float
    num_steps: int
    diffusion_threshold: float

    def num_levels(self, step: int) -> int:
        """Return N(k)."""
        return curriculum(step, num_steps=self.num_steps, s0=self.s0, s1=self.s1)

    def draw(
        self, step: int, num_samples: int, generator: torch.Generator, above: float = 0
    ) -> Levels:
        """Draw adjacent levels of the grid."""
        num_levels = self.num_levels(step)
        sigmas, probabilities = self.grid(num_levels)
        probabilities = probabilities * (sigmas[1:] >= above)
        n = torch.multinomial(
            probabilities, num_samples, replacement=True, generator=generator
        )
        return self.pairs(num_levels, n)

    def pairs(self, num_levels: int, n: Tensor) -> Levels:
        """Return the pairs of some indices, counted from the least noisy level."""
        sigmas, _ = self.grid(num_levels)
        mask = small_noise_pairs(
            n, num_levels=num_levels, threshold=self.diffusion_threshold
        )
        return Levels(sigmas[n + 1], sigmas[n], mask)

    def grid(self, num_levels: int) -> tuple[Tensor, Tensor]:
        """Return the increasing levels, ``(N + 1,)``, and the pairs' probabilities, ``(N,)``."""
        return _grid(self, num_levels)


@lru_cache(maxsize=8)
def _grid(schedule: IndexSchedule, num_levels: int) -> tuple[Tensor, Tensor]:
    sigmas = karras_sigmas(
        num_levels,
        sigma_min=schedule.sigma_min,
        sigma_max=schedule.sigma_max,
        rho=schedule.rho,
    )
    return sigmas, level_probabilities(
        sigmas, P_mean=schedule.P_mean, P_std=schedule.P_std
    )


@dataclass(frozen=True)
class ContinuousSchedule:
    """ECT's levels: ln t is normal, r follows from t and the stage.

    N(k) is nominal here, s0 doubled at each stage as the gap t - r halves: the laws of c, which
    are functions of N, keep their meaning.
    """

    P_mean: float
    P_std: float
    q: float
    k: float
    b: float
    s0: int
    num_stages: int
    num_steps: int
    small_noise_below: float

    def stage(self, step: int) -> int:
        """Return the stage of a step, counted from 0; all have the same number of steps."""
        return curriculum_stage(
            step, num_steps=self.num_steps, num_stages=self.num_stages
        )

    def num_levels(self, step: int) -> int:
        """Return the nominal N(k)."""
        return int(self.s0 * 2 ** self.stage(step))

    def draw(
        self, step: int, num_samples: int, generator: torch.Generator, above: float = 0
    ) -> Levels:
        """Draw t, and r below it."""
        t = log_normal_levels(num_samples, generator, self.P_mean, self.P_std, above)
        return self.pairs(step, t)

    def pairs(self, step: int, t: Tensor) -> Levels:
        """Return the pairs of some upper levels."""
        r = lower_level(t, self.stage(step), q=self.q, k=self.k, b=self.b)
        return Levels(t, r, t <= self.small_noise_below)


@dataclass(frozen=True)
class DiffusionSchedule:
    """Single levels with ln t normal, as EDM trains; r is 0 and there is one stage."""

    P_mean: float
    P_std: float

    def num_levels(self, step: int) -> int:
        """Return 1: there are no intervals."""
        return 1

    def draw(
        self, step: int, num_samples: int, generator: torch.Generator, above: float = 0
    ) -> Levels:
        """Draw t."""
        t = log_normal_levels(num_samples, generator, self.P_mean, self.P_std, above)
        return Levels(t, torch.zeros_like(t), torch.zeros_like(t, dtype=torch.bool))


@dataclass(frozen=True)
class TruncatedSchedule:
    """Levels t >= t' of another schedule, a share of them at the boundary (TCM).

    A sample at the boundary has the lowest pair with t >= t', so that r < t'.
    """

    schedule: IndexSchedule | ContinuousSchedule
    truncation: float
    boundary_probability: float

    def num_levels(self, step: int) -> int:
        """Return N(k) of the schedule below."""
        return self.schedule.num_levels(step)

    def draw(
        self, step: int, num_samples: int, generator: torch.Generator, above: float = 0
    ) -> Levels:
        """Draw pairs, and move a share of them to the boundary."""
        above = max(above, self.truncation)
        levels = self.schedule.draw(step, num_samples, generator, above)
        share = torch.rand(num_samples, generator=generator, dtype=torch.float64)
        at_boundary = share < self.boundary_probability
        moved = zip(self._boundary(step), levels, strict=True)
        return Levels(*(torch.where(at_boundary, to, own) for to, own in moved))

    def _boundary(self, step: int) -> Levels:
        """Return the lowest pair alone, ``(1,)``."""
        truncation = torch.tensor([self.truncation], dtype=torch.float64)
        if isinstance(self.schedule, ContinuousSchedule):
            return self.schedule.pairs(step, truncation)
        num_levels = self.num_levels(step)
        sigmas, _ = self.schedule.grid(num_levels)
        return self.schedule.pairs(
            num_levels, torch.searchsorted(sigmas, truncation) - 1
        )


def log_normal_levels(
    num_samples: int,
    generator: torch.Generator,
    P_mean: float,
    P_std: float,
    above: float = 0,
) -> Tensor:
    """Draw t with ln t ~ N(P_mean, P_std^2), given t >= ``above``: ``(num_samples,)``, float64."""
    u = torch.rand(num_samples, generator=generator, dtype=torch.float64)
    low = 0.0
    if above > 0:
        low = (1 + math.erf((math.log(above) - P_mean) / (math.sqrt(2) * P_std))) / 2
    quantile = (low + (1 - low) * u).clamp(1e-12, 1 - 1e-12)
    t = (P_mean + P_std * math.sqrt(2) * torch.erfinv(2 * quantile - 1)).exp()
    return t.clamp_min(above)


def lower_level(t: Tensor, stage: int, *, q: float, k: float, b: float) -> Tensor:
    """Return ECT's r = t (1 - q^-(stage + 1) (1 + k sigmoid(-b t))), at least 0.

    Args:
        t: Upper levels, ``(B,)``.
        stage: Stage of the curriculum, counted from 0.
        q: Factor by which the gap shrinks from stage to stage, > 1.
        k: How much wider the gap is, in proportion to t, at small levels.
        b: How fast that falls with t.
    """
    ratio = 1 - q ** -(stage + 1) * (1 + k * torch.sigmoid(-b * t))
    return (t * ratio).clamp_min(0)


def small_noise_level(
    threshold: float, *, sigma_min: float, sigma_max: float, rho: float
) -> float:
    """Return the level below which the diffusion loss acts when the grid is infinitely fine.

    The index table selects the last share ``1 - threshold`` of the grid (``small_noise_pairs``);
    this is where that share begins: 0.17 at 0.75.
    """
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return float((low + (1 - threshold) * (high - low)) ** rho)
