"""The training objectives: frozen values, each called with (denoiser, batch, levels, seed, c).

- :class:`ConsistencyTraining`: sLCT (Dao et al. 2025), of which iCT (Song & Dhariwal 2023) is the
  case of the pseudo-Huber loss, constant c, independent coupling and no diffusion loss;
- :class:`TruncatedTraining`: TCM (Lee et al. 2024), a second stage on t >= t';
- :class:`ConsistencyDistillation`: from a diffusion teacher (Song et al. 2023, algorithm 2);
- :class:`DiffusionTraining`: the denoising loss of EDM (Karras et al. 2022).

Student and target see the same noise and the same dropout mask; the target is the student itself
without gradient (iCT: no EMA of the teacher). All return one value per sample, which
:func:`batch_loss` reduces, so that a batch may be computed in parts and on several devices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from lct_pipeline.core.losses import (
    ROBUST_LOSSES,
    LossName,
    Residual,
    consistency_weights,
    diffusion_weights,
    mean_square,
    squared_residual,
)
from lct_pipeline.core.preconditioning import Model, append_dims
from lct_pipeline.core.randomness import seeded_dropout

Solver = Literal["euler", "heun"]


class Batch(NamedTuple):
    """Samples of a step: latents x and unit noise eps, ``(B, C, H, W)``, and classes ``(B,)``."""

    x: Tensor
    eps: Tensor
    labels: Tensor | None = None

    def noised(self, level: Tensor) -> Tensor:
        """Return x_t = x + t eps at levels ``(B,)``."""
        return self.x + append_dims(level, self.x).to(self.x.dtype) * self.eps

    def part(self, own: slice | Tensor) -> Batch:
        """Return some of the samples."""
        labels = None if self.labels is None else self.labels[own]
        return Batch(self.x[own], self.eps[own], labels)


class Levels(NamedTuple):
    """Noise levels of a step: t > r, ``(B,)``, and where the diffusion loss acts, boolean."""

    t: Tensor
    r: Tensor
    small_noise: Tensor

    def part(self, own: slice) -> Levels:
        """Return the levels of some of the samples."""
        return Levels(self.t[own], self.r[own], self.small_noise[own])


class LossParts(NamedTuple):
    """The parts of a loss, weighted by level, one value per sample: ``(B,)`` each.

    ``squared_difference`` is the mean square of the temporal difference, without weight.
    """

    consistency: Tensor
    diffusion: Tensor
    squared_difference: Tensor


class Objective(Protocol):
    """What is minimised: the parts of a loss, one value per sample."""

    def __call__(
        self, denoiser: Model, batch: Batch, levels: Levels, seed: int, c: float
    ) -> LossParts:
        """Return the losses.

        Args:
            denoiser: The model that is trained.
            batch: Latents and the noise they are coupled with.
            levels: Pairs of levels.
            seed: Seed of the dropout mask.
            c: Scale of the robust loss.
        """


@dataclass(frozen=True)
class RobustLoss:
    """The loss rho_c of the temporal difference."""

    name: LossName
    residual: Residual

    def __call__(self, difference: Tensor, c: float) -> Tensor:
        """Return rho_c of ``(B, C, H, W)``: ``(B,)``."""
        return ROBUST_LOSSES[self.name](squared_residual(difference, self.residual), c)


@dataclass(frozen=True)
class ConsistencyTraining:
    """rho_c(f(x_t, t) - sg f(x_r, r)) / (t - r), and sLCT's diffusion loss.

    Where r = 0, as in ECT's first stage, the target is the clean sample.

    Attributes:
        robust: The loss of the temporal difference.
        sigma_data: Standard deviation of the latents per element.
    """

    robust: RobustLoss
    sigma_data: float

    def __call__(
        self, denoiser: Model, batch: Batch, levels: Levels, seed: int, c: float
    ) -> LossParts:
        """Return the losses; the denoiser is the consistency function f(x_t, t)."""
        D_xt = _output(denoiser, batch, levels.t, seed)
        with torch.no_grad():
            D_xr = _target_output(denoiser, batch, levels.r, seed)
        return _loss_parts(D_xt, D_xr, batch, levels, self, c)


@dataclass(frozen=True)
class TruncatedTraining:
    """The second stage of TCM, whose model serves t >= t' alone.

    L = mean of the samples with t > t' + w_b * mean of those at the boundary t = t'. Where r < t'
    the target is the frozen first stage: always at the boundary, without which the model could
    collapse to a constant, and by chance in a pair that straddles t'. As a mean over the whole
    batch, of which the share s is at the boundary, the weights of the samples are 1 / (1 - s) and
    w_b / s.

    Attributes:
        robust: The loss of the temporal difference.
        sigma_data: Standard deviation of the latents per element.
        stage1: The frozen model, for r < t'.
        truncation: The level t'.
        boundary_weight: Weight w_b of the mean over the boundary.
        boundary_share: Share s of the batch there, > 0 and < 1.
    """

    robust: RobustLoss
    sigma_data: float
    stage1: Model
    truncation: float
    boundary_weight: float
    boundary_share: float

    def __call__(
        self, denoiser: Model, batch: Batch, levels: Levels, seed: int, c: float
    ) -> LossParts:
        """Return the losses of pairs with t >= t'."""
        D_xt = _output(denoiser, batch, levels.t, seed)
        below = levels.r < self.truncation
        with torch.no_grad():
            D_xr = _target_output(denoiser, batch, levels.r, seed)
            D_xr[below] = _target_output(
                self.stage1, batch.part(below), levels.r[below], seed
            )
        parts = _loss_parts(D_xt, D_xr, batch, levels, self, c)
        weighted = torch.where(
            levels.t <= self.truncation,
            parts.consistency * (self.boundary_weight / self.boundary_share),
            parts.consistency / (1 - self.boundary_share),
        )
        return parts._replace(consistency=weighted)


@dataclass(frozen=True)
class ConsistencyDistillation:
    """The consistency loss against the teacher's step from x_t down to r.

    Attributes:
        robust: The loss of the temporal difference.
        sigma_data: Standard deviation of the latents per element.
        teacher: Denoiser of a diffusion model, in evaluation mode.
        solver: Step along the teacher's probability-flow ODE.
    """

    robust: RobustLoss
    sigma_data: float
    teacher: Model
    solver: Solver

    def __call__(
        self, denoiser: Model, batch: Batch, levels: Levels, seed: int, c: float
    ) -> LossParts:
        """Return the losses; the denoiser is the consistency function f(x_t, t)."""
        D_xt = _output(denoiser, batch, levels.t, seed)
        x_t = batch.noised(levels.t)
        with torch.no_grad():
            x_r = ode_step(
                self.teacher, x_t, levels.t, levels.r, batch.labels, self.solver
            )
            with seeded_dropout(seed, batch.x.device):
                D_xr = denoiser(x_r, levels.r, batch.labels).to(batch.x.dtype)
        return _loss_parts(D_xt, D_xr, batch, levels, self, c)


@dataclass(frozen=True)
class DiffusionTraining:
    """EDM's denoising loss (1 / t^2 + 1 / sigma_data^2) mean_CHW (D(x_t, t) - x)^2.

    It is the consistency part here, the only one: there is no temporal difference, and no c.

    Attributes:
        sigma_data: Standard deviation of the latents per element.
    """

    sigma_data: float

    def __call__(
        self, denoiser: Model, batch: Batch, levels: Levels, seed: int, c: float
    ) -> LossParts:
        """Return the losses; the levels r and the scale c are not used."""
        D_xt = _output(denoiser, batch, levels.t, seed)
        weights = diffusion_weights(levels.t, sigma_data=self.sigma_data)
        loss = weights.to(D_xt.dtype) * mean_square(D_xt - batch.x)
        zero = torch.zeros_like(loss)
        return LossParts(loss, zero, zero)


def batch_loss(
    parts: LossParts,
    *,
    diffusion_weight: float,
    batch_size: int,
    num_small_noise: int,
) -> Tensor:
    """Return the share of the batch's loss that these samples have, a scalar.

    L = mean of the consistency part over the batch + diffusion_weight * mean of the diffusion part
    over the samples that have one. The shares of all parts of a batch add up to it.

    Args:
        parts: Values of some samples of the batch.
        diffusion_weight: 5 in sLCT's code; 0 switches the diffusion loss off.
        batch_size: Samples in the whole batch.
        num_small_noise: Samples in the whole batch with the diffusion loss; may be 0.
    """
    consistency = parts.consistency.sum() / batch_size
    diffusion = parts.diffusion.sum() / max(num_small_noise, 1)
    return consistency + diffusion_weight * diffusion


def ode_step(
    teacher: Model,
    x_t: Tensor,
    t: Tensor,
    r: Tensor,
    labels: Tensor | None,
    solver: Solver,
) -> Tensor:
    """Return x_r after one step of dx/dt = (x - D(x, t)) / t from t to r > 0.

    Args:
        teacher: Denoiser D of a diffusion model.
        x_t: Noisy latents, ``(B, C, H, W)``.
        t: Levels of ``x_t``, ``(B,)``.
        r: Levels to go to, ``(B,)``.
        labels: Classes, ``(B,)``.
        solver: ``euler``, or ``heun`` with a second evaluation at r (EDM, algorithm 1).
    """
    step = append_dims(r - t, x_t).to(x_t.dtype)
    slope = _slope(teacher, x_t, t, labels)
    x_r = x_t + step * slope
    if solver == "euler":
        return x_r
    return x_t + step * (slope + _slope(teacher, x_r, r, labels)) / 2


def _slope(teacher: Model, x_t: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
    return (x_t - teacher(x_t, t, labels)) / append_dims(t, x_t).to(x_t.dtype)


def _output(denoiser: Model, batch: Batch, level: Tensor, dropout_seed: int) -> Tensor:
    """Return f(x + level * eps, level) in the type of x."""
    with seeded_dropout(dropout_seed, batch.x.device):
        return denoiser(batch.noised(level), level, batch.labels).to(batch.x.dtype)


def _target_output(
    denoiser: Model, batch: Batch, r: Tensor, dropout_seed: int
) -> Tensor:
    """Return f(x_r, r), and x itself where r = 0, at which ln(r) would not be finite."""
    above_zero = r > 0
    D_xr = _output(denoiser, batch, torch.where(above_zero, r, 1.0), dropout_seed)
    return torch.where(append_dims(above_zero, D_xr), D_xr, batch.x)


def _loss_parts(
    D_xt: Tensor,
    D_xr: Tensor,
    batch: Batch,
    levels: Levels,
    objective: ConsistencyTraining | TruncatedTraining | ConsistencyDistillation,
    c: float,
) -> LossParts:
    """Return the weighted losses of student and target."""
    # temporal difference, robust, weighted by level
    difference = D_xt - D_xr
    weights = consistency_weights(levels.t, levels.r).to(D_xt.dtype)
    consistency = weights * objective.robust(difference, c)

    # diffusion loss, from the student's own forward pass
    weights = diffusion_weights(levels.t, sigma_data=objective.sigma_data)
    diffusion = (
        levels.small_noise * weights.to(D_xt.dtype) * mean_square(D_xt - batch.x)
    )
    return LossParts(consistency, diffusion, mean_square(difference.detach()))
