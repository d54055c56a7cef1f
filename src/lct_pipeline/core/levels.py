"""Noise levels: grid and distribution, and which levels a training step sees.

Sources: Karras et al. 2022 (EDM), eq. 5; Song & Dhariwal 2023 (iCT), noise schedule, which sLCT
keeps in latent space (Dao et al. 2025, section 3). Grids increase here: ``sigmas[0]`` is
``sigma_min`` and ``sigmas[N]`` is ``sigma_max``. The authors' code counts from the noisiest level;
its index ``i`` is our ``N - 1 - n``.

Schedules go from a step to its pairs t > r:

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

from lct_pipeline.core.curriculum import curriculum, curriculum_stage
from lct_pipeline.core.objectives import Levels


def karras_sigmas(
    num_levels: int, *, sigma_min: float, sigma_max: float, rho: float
) -> Tensor:
    """Return the increasing grid of noise levels of EDM, eq. 5.

    Args:
        num_levels: Number N >= 1 of intervals, the N(k) of the papers.
        sigma_min: Smallest level, > 0.
        sigma_max: Largest level.
        rho: Exponent of the spacing; larger values put more levels near ``sigma_min``.

    Returns:
        Levels of shape ``(N + 1,)``, float64.
    """
    n = torch.arange(num_levels + 1, dtype=torch.float64) / num_levels
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    sigmas = (low + n * (high - low)) ** rho
    sigmas[0], sigmas[-1] = sigma_min, sigma_max  # exact at both ends
    return sigmas


def level_probabilities(sigmas: Tensor, *, P_mean: float, P_std: float) -> Tensor:
    """Return the discretised log-normal over pairs of adjacent levels (iCT).

    p(n) is proportional to erf((ln t - P_mean) / (sqrt 2 P_std)) minus the same at r, for the
    pair ``t = sigmas[n + 1]``, ``r = sigmas[n]``.

    Args:
        sigmas: Increasing grid of shape ``(N + 1,)``.
        P_mean: Mean of ln sigma.
        P_std: Standard deviation of ln sigma, > 0.

    Returns:
        Probabilities of shape ``(N,)``, float64, with sum 1.
    """
    cumulative = torch.erf((sigmas.log() - P_mean) / (math.sqrt(2) * P_std))
    weights = cumulative.diff()
    return weights / weights.sum()


def small_noise_pairs(n: Tensor, *, num_levels: int, threshold: float) -> Tensor:
    """Return which pairs the diffusion loss acts on: those at small noise levels.

    sLCT takes the pairs with ``i >= int(threshold * (N + 1))``, where i counts from the noisiest
    level. At the paper's threshold of 0.75 and N >= 20 that is t <= 0.17.

    Args:
        n: Pair indices, shape ``(B,)``, counted from the least noisy level.
        num_levels: Number N of intervals.
        threshold: Share of the grid, counted from the noisiest level, without the loss.

    Returns:
        Boolean mask of shape ``(B,)``.
    """
    return num_levels - 1 - n >= int(threshold * (num_levels + 1))


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
        return Levels(sigmas[n + 1], sigmas[n], self._small_noise(num_levels, n))

    def pairs_at(self, step: int, t: Tensor) -> Levels:
        """Return the pairs of some upper levels, which need not be on the grid.

        r is one interval below t: the grid's formula (EDM, eq. 5) at n - 1, where t is it at n, no
        whole number; sigma_min at the least.
        """
        num_levels = self.num_levels(step)
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        interval, root = (high - low) / num_levels, t ** (1 / self.rho)
        r = (root - interval).clamp_min(low) ** self.rho
        n = (root - low) / interval - 1
        return Levels(t, r, self._small_noise(num_levels, n))

    def _small_noise(self, num_levels: int, n: Tensor) -> Tensor:
        return small_noise_pairs(
            n, num_levels=num_levels, threshold=self.diffusion_threshold
        )

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
    are functions of N, keep their meaning. No t is above ``highest``, which ECT has at infinity and
    TCM at sigma_max.
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
    highest: float

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
        t = log_normal_levels(
            num_samples, generator, self.P_mean, self.P_std, above, self.highest
        )
        return self.pairs_at(step, t)

    def pairs_at(self, step: int, t: Tensor) -> Levels:
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
    """Levels t > t' of another schedule, and a share of the samples at the boundary t = t' (TCM).

    The share is exact, floor(share * B) of B samples at places drawn anew. At the boundary r is the
    other schedule's for t', so r < t'. Of the other pairs the lowest may reach below t' too.
    """

    schedule: IndexSchedule | ContinuousSchedule
    truncation: float
    boundary_share: float

    def num_levels(self, step: int) -> int:
        """Return N(k) of the schedule below."""
        return self.schedule.num_levels(step)

    def draw(
        self, step: int, num_samples: int, generator: torch.Generator, above: float = 0
    ) -> Levels:
        """Draw pairs, and move a share of them to the boundary."""
        above = max(above, math.nextafter(self.truncation, math.inf))
        levels = self.schedule.draw(step, num_samples, generator, above)
        places = torch.randperm(num_samples, generator=generator)
        at_boundary = places < int(self.boundary_share * num_samples)
        truncation = torch.tensor([self.truncation], dtype=torch.float64)
        boundary = self.schedule.pairs_at(step, truncation)
        moved = zip(boundary, levels, strict=True)
        return Levels(*(torch.where(at_boundary, to, own) for to, own in moved))


def log_normal_levels(
    num_samples: int,
    generator: torch.Generator,
    P_mean: float,
    P_std: float,
    above: float = 0,
    below: float = math.inf,
) -> Tensor:
    """Draw t with ln t ~ N(P_mean, P_std^2), given ``above`` <= t <= ``below``.

    Returns:
        Levels of shape ``(num_samples,)``, float64.
    """
    u = torch.rand(num_samples, generator=generator, dtype=torch.float64)
    low, high = (
        (1 + math.erf((math.log(bound) - P_mean) / (math.sqrt(2) * P_std))) / 2
        if bound > 0
        else 0.0
        for bound in (above, below)
    )
    quantile = (low + (high - low) * u).clamp(1e-12, 1 - 1e-12)
    t = (P_mean + P_std * math.sqrt(2) * torch.erfinv(2 * quantile - 1)).exp()
    return t.clamp(above, below)


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
