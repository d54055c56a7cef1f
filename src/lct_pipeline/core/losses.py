"""Robust losses per sample, and the weights of the noise levels.

Source: sLCT section 4.2 (Cauchy loss); pseudo-Huber is iCT's. All losses act on m, one squared
residual per sample, so robustness is per sample. Two conventions for m are in use, and c means
different things in them: iCT derives c = 0.00054 sqrt(D) for ``sum``, the squared norm of the
temporal difference; the code of sLCT applies it to ``mean``, D times less, where c is in effect
sqrt(D) times larger.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

LossName = Literal["cauchy", "pseudo_huber", "geman_mcclure", "l2"]
Residual = Literal["mean", "sum"]


def mean_square(difference: Tensor) -> Tensor:
    """Return the mean of squares of ``(B, ...)`` over all but the first axis: ``(B,)``."""
    return difference.square().flatten(1).mean(1)


def squared_residual(difference: Tensor, residual: Residual) -> Tensor:
    """Return m of ``(B, ...)``, the mean or the sum of squares of each sample: ``(B,)``."""
    m = mean_square(difference)
    return m if residual == "mean" else m * difference[0].numel()


def cauchy_loss(m: Tensor, c: float) -> Tensor:
    """Return ln(1 + m / (2 c^2)), which grows with the logarithm of an outlier."""
    return torch.log1p(m / (2 * c**2))


def pseudo_huber_loss(m: Tensor, c: float) -> Tensor:
    """Return sqrt(m + c^2) - c, which grows linearly with an outlier."""
    return m / (torch.sqrt(m + c**2) + c)  # the same, without cancellation at small m


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


def consistency_weights(t: Tensor, r: Tensor) -> Tensor:
    """Return iCT's weights 1 / (t - r), shape ``(B,)``."""
    return 1 / (t - r)


def diffusion_weights(t: Tensor, *, sigma_data: float) -> Tensor:
    """Return EDM's weights 1 / t^2 + 1 / sigma_data^2, shape ``(B,)``."""
    return 1 / t**2 + 1 / sigma_data**2
