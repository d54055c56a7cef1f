"""Robust losses rho_c per sample, their scale c, and the weights of the noise levels.

Source: sLCT section 4.2 (Cauchy loss); pseudo-Huber is iCT's. All losses act on m, one squared
residual per sample, so robustness is per sample. Two conventions for m are in use, and c means
different things in them: iCT derives c = 0.00054 sqrt(D) for ``sum``, the squared norm of the
temporal difference; the code of sLCT applies it to ``mean``, D times less, where c is in effect
sqrt(D) times larger.

The scale c is iCT's constant, or follows the adaptive scaling-c scheduler: sLCT section 4.5 with
the constants of the authors' code. Their law is a fit of the size of the temporal difference
f(x_t, t) - f(x_r, r) against N(k) on latents of their own; ``FittedC`` measures its root mean
square while it trains and fits the law to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
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


def constant_c(dimension: int) -> float:
    """Return iCT's c = 0.00054 sqrt(D) for data of D = C * H * W values."""
    return 0.00054 * math.sqrt(dimension)


@dataclass(frozen=True)
class PowerLaw:
    """c(N) = exp(slope ln N + intercept)."""

    slope: float
    intercept: float

    def __call__(self, num_levels: int) -> float:
        """Return c at N = ``num_levels``."""
        return math.exp(self.slope * math.log(num_levels) + self.intercept)


PAPER_LAW = PowerLaw(slope=-1.15, intercept=-0.85)


def paper_c(num_levels: int, *, s0: int, dimension: int) -> float:
    """Return c(N) as the authors' code has it.

    The first stage, N = s0, keeps iCT's constant; from the second stage on
    c(N) = exp(-1.15 ln N - 0.85).
    """
    if num_levels <= s0:
        return constant_c(dimension)
    return PAPER_LAW(num_levels)


def fit_power_law(rms: Mapping[int, float]) -> PowerLaw:
    """Return the law through what was measured at some N, by least squares in logarithms.

    Args:
        rms: Root mean square of the temporal difference for each N, > 0. One N fixes the intercept
            alone, and the slope is the authors'; none is the authors' law.
    """
    if not rms:
        return PAPER_LAW
    x = np.log(np.array(list(rms), dtype=np.float64))
    y = np.log(np.array(list(rms.values()), dtype=np.float64))
    if len(rms) == 1:
        return PowerLaw(PAPER_LAW.slope, float(y[0] - PAPER_LAW.slope * x[0]))
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())
    return PowerLaw(slope, float(y.mean() - slope * x.mean()))


@dataclass
class FittedC:
    """The law fitted to this training's own temporal differences, stage by stage.

    c at N follows from the stages before N: the first stage, of which nothing is known, has the
    authors' law; the second its intercept from the first; later ones a slope of their own too.

    Attributes:
        sums: For each N the sum of mean squares of temporal differences, and their number.
    """

    sums: dict[int, tuple[float, int]] = field(default_factory=dict)

    def add(self, num_levels: int, mean_square_sum: float, num_samples: int) -> None:
        """Take the mean squares of the temporal differences of some samples, summed."""
        total, count = self.sums.get(num_levels, (0.0, 0))
        self.sums[num_levels] = (total + mean_square_sum, count + num_samples)

    def rms(self) -> dict[int, float]:
        """Return the root mean square of the temporal difference at each N, per element."""
        return {
            n: math.sqrt(total / count)
            for n, (total, count) in self.sums.items()
            if total > 0
        }

    def __call__(self, num_levels: int) -> float:
        """Return c at N = ``num_levels``."""
        before = {n: s for n, s in self.rms().items() if n < num_levels}
        return fit_power_law(before)(num_levels)
