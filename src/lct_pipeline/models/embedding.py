"""The sinusoidal embedding of the noise level."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sinusoidal_embedding(c_noise: Tensor, num_channels: int) -> Tensor:
    """Return cosines and sines of ``c_noise``, ``(B,)``, at geometric frequencies.

    Source: Ho et al. 2020 (DDPM), after Vaswani et al. 2017: frequencies from 1 down to 1 / 10000.

    Returns:
        Embedding of shape ``(B, num_channels)``; ``num_channels`` is even.
    """
    half = num_channels // 2
    exponents = torch.arange(half, dtype=c_noise.dtype, device=c_noise.device) / half
    angles = c_noise[:, None] * torch.exp(-math.log(10_000) * exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=1)
