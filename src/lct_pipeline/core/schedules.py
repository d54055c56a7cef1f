"""Noise levels: the Karras grid, the curriculum N(k) and the level distribution of iCT.

Sources: Karras et al. 2022 (EDM), eq. 5; Song & Dhariwal 2023 (iCT), curriculum and noise schedule;
sLCT keeps both in latent space (Dao et al. 2025, section 3).

Grids increase here: ``sigmas[0]`` is ``sigma_min`` and ``sigmas[N]`` is ``sigma_max``. The
authors' code counts from the noisiest level; its index ``i`` is our ``N - 1 - n``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


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


def num_stages(s0: int, s1: int) -> int:
    """Return how many stages the curriculum has: floor(log2(s1 / s0)) + 1."""
    return int(math.log2(s1 // s0)) + 1


def curriculum_stage(step: int, *, num_steps: int, num_stages: int) -> int:
    """Return the stage, counted from 0, that training step ``step`` belongs to.

    All stages have ``K' = floor(K / num_stages)`` steps; the last takes the remainder.
    """
    steps_per_stage = max(1, num_steps // num_stages)
    return min(step // steps_per_stage, num_stages - 1)


def curriculum(step: int, *, num_steps: int, s0: int, s1: int) -> int:
    """Return N(k) = min(s0 * 2^floor(k / K'), s1), the number of intervals at step k.

    iCT's improved curriculum, without its "+ 1": we count intervals, iCT counts levels.
    """
    stage = curriculum_stage(step, num_steps=num_steps, num_stages=num_stages(s0, s1))
    return min(s0 * 2**stage, s1)


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
