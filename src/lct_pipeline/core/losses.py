"""Robust losses per sample, their scale c, and the weights of the noise levels.

Source: sLCT sections 4.2 (Cauchy loss) and 4.5 (adaptive scaling-c scheduler), with the constants
of the authors' code; pseudo-Huber is iCT's. All losses act on m, the mean over C, H and W of
the squared temporal difference: one residual per sample, so robustness is per sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

LossName = Literal["cauchy", "pseudo_huber", "geman_mcclure", "l2"]


def mean_square(difference: Tensor) -> Tensor:
    """Return m, the mean of squares of ``(B, ...)`` over all but the first axis: ``(B,)``."""
    return difference.square().flatten(1).mean(1)


def cauchy_loss(m: Tensor, c: float) -> Tensor:
    """Return ln(1 + m / (2 c^2)), which grows with the logarithm of an outlier."""
    return torch.log1p(m / (2 * c**2))


def pseudo_huber_loss(m: Tensor, c: float) -> Tensor:
    """Return sqrt(m + c^2) - c, which grows linearly with an outlier."""
    return torch.sqrt(m + c**2) - c


def geman_mcclure_loss(m: Tensor, c: float) -> Tensor:
    """Return 2 m / (m + 4 c^2), which saturates."""
    return 2 * m / (m + 4 * c**2)


def l2_loss(m: Tensor, c: float) -> Tensor:
    """Return m: no robustness; ``c`` has no effect."""
    return m


ROBUST_LOSSES: dict[LossName, Callable[[Tensor, float], Tensor]] = {
    "cauchy": cauchy_loss,
    "pseudo_huber": pseudo_huber_loss,
    "geman_mcclure": geman_mcclure_loss,
    "l2": l2_loss,
}


def constant_c(dimension: int) -> float:
    """Return iCT's c = 0.00054 sqrt(D) for data of D = C * H * W values."""
    return 0.00054 * math.sqrt(dimension)


def adaptive_c(num_levels: int, *, s0: int, dimension: int) -> float:
    """Return c(N) of the adaptive scaling-c scheduler.

    The first stage, N = s0, keeps iCT's constant; from the second stage on
    c(N) = exp(-1.15 ln N - 0.85), the authors' fit to the spread of the temporal difference.
    """
    if num_levels <= s0:
        return constant_c(dimension)
    return math.exp(-1.15 * math.log(num_levels) - 0.85)


def consistency_weights(t: Tensor, r: Tensor) -> Tensor:
    """Return iCT's weights 1 / (t - r), shape ``(B,)``."""
    return 1 / (t - r)


def diffusion_weights(t: Tensor, *, sigma_data: float) -> Tensor:
    """Return EDM's weights 1 / t^2 + 1 / sigma_data^2, shape ``(B,)``."""
    return 1 / t**2 + 1 / sigma_data**2
