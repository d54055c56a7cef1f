"""Sampling from a consistency model: one step and multistep.

Source: Song et al. 2023, algorithm 1. One network evaluation (NFE) per level.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


@torch.no_grad()
def sample_multistep(
    model: Callable[[Tensor, Tensor], Tensor],
    noises: Sequence[Tensor],
    sigmas: Sequence[float],
    *,
    sigma_min: float,
) -> Tensor:
    """Generate latents with as many evaluations as there are levels.

    The first evaluation starts from pure noise at ``sigmas[0]``; each further one adds fresh
    noise of variance sigma^2 - sigma_min^2 to the result and denoises again.

    Args:
        model: The consistency function f(x_t, t).
        noises: Unit noise for each level, each ``(B, C, H, W)``.
        sigmas: Decreasing levels, the first being sigma_max.
        sigma_min: Level of the model's output.

    Returns:
        Latents of shape ``(B, C, H, W)``.
    """
    x = sigmas[0] * noises[0]
    for index, (sigma, eps) in enumerate(zip(sigmas, noises, strict=True)):
        if index > 0:
            x = x + (sigma**2 - sigma_min**2) ** 0.5 * eps
        x = model(x, torch.full((len(x),), sigma, dtype=torch.float64, device=x.device))
    return x
