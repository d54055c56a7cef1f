"""The training objective of sLCT: consistency loss plus diffusion loss at small noise levels.

Source: Dao et al. 2025, sections 3 and 4. Student and target see the same noise and the same
dropout mask; the target is the student itself without gradient (iCT, section 3.2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lct_pipeline.core.losses import (
    ROBUST_LOSSES,
    LossName,
    consistency_weights,
    diffusion_weights,
    mean_square,
)
from lct_pipeline.core.preconditioning import append_dims
from lct_pipeline.core.randomness import seeded_dropout


class ConsistencyLoss(NamedTuple):
    """The parts of the loss, one value per sample, ``(B,)``, and its mean."""

    total: Tensor
    consistency: Tensor
    diffusion: Tensor
    squared_difference: Tensor


def consistency_training_loss(
    model: Callable[[Tensor, Tensor], Tensor] | nn.Module,
    x: Tensor,
    eps: Tensor,
    t: Tensor,
    r: Tensor,
    *,
    loss: LossName,
    c: float,
    diffusion_mask: Tensor,
    diffusion_weight: float,
    sigma_data: float,
    dropout_seed: int,
) -> ConsistencyLoss:
    """Return the loss of one batch.

    L = mean_b[ rho_c(m) / (t - r) ] + w * mean over the masked b of
    (1 / t^2 + 1 / sigma_data^2) * mean_CHW (f(x_t, t) - x)^2, where m is the mean square of
    f(x_t, t) - sg f(x_r, r).

    Args:
        model: The consistency function f(x_t, t).
        x: Clean latents, ``(B, C, H, W)``.
        eps: Unit noise, already coupled with ``x``.
        t: Upper levels of the pairs, ``(B,)``.
        r: Lower levels of the pairs, ``(B,)``, ``r < t``.
        loss: Name of the robust loss rho.
        c: Scale of the robust loss, > 0.
        diffusion_mask: Samples with the diffusion loss, ``(B,)``, boolean; may be all false.
        diffusion_weight: The factor w, 5 in the paper's code; 0 switches the term off.
        sigma_data: Standard deviation of the latents per element.
        dropout_seed: Seed of the dropout mask that student and target share.
    """
    D_xt = _noised_output(model, x, eps, t, dropout_seed)
    with torch.no_grad():
        D_xr = _noised_output(model, x, eps, r, dropout_seed)

    # temporal difference, robust, weighted by level
    m = mean_square(D_xt - D_xr)
    consistency = consistency_weights(t, r).to(m.dtype) * ROBUST_LOSSES[loss](m, c)

    # diffusion loss, from the student's own forward pass
    weights = diffusion_weights(t, sigma_data=sigma_data).to(m.dtype)
    diffusion = diffusion_mask * weights * mean_square(D_xt - x)
    diffusion_mean = diffusion.sum() / diffusion_mask.sum().clamp_min(1)

    total = consistency.mean() + diffusion_weight * diffusion_mean
    return ConsistencyLoss(total, consistency, diffusion, m.detach())


def _noised_output(
    model: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    eps: Tensor,
    level: Tensor,
    dropout_seed: int,
) -> Tensor:
    """Return f(x + level * eps, level) in the type of ``x``."""
    with seeded_dropout(dropout_seed, x.device):
        return model(x + append_dims(level, x).to(x.dtype) * eps, level).to(x.dtype)
