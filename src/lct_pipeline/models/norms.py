"""Normalisation layers, first of all the Non-scaling LayerNorm of sLCT."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NormName = Literal["non_scaling_layer_norm", "layer_norm", "group_norm"]


class NonScalingLayerNorm(nn.Module):
    """LayerNorm over all axes but the first, with a learned bias and no learned scale.

    y = (x - mean) / sqrt(var + eps) + beta, beta of the shape of one sample and 0 at the start.
    A learned scale would amplify the channels in which outliers live; sLCT fixes it to 1.

    Args:
        shape: Shape of one sample, ``(C, H, W)`` or ``(D,)``.
        eps: Added to the variance.
    """

    def __init__(self, shape: tuple[int, ...], eps: float = 1e-5) -> None:
        super().__init__()
        self.shape = shape
        self.eps = eps
        self.bias = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``(B, *shape)``."""
        return F.layer_norm(x, self.shape, bias=self.bias, eps=self.eps)


def build_norm(name: NormName, shape: tuple[int, ...]) -> nn.Module:
    """Return the norm ``name`` for samples of ``shape``, ``(C, H, W)`` or ``(D,)``."""
    if name == "non_scaling_layer_norm":
        return NonScalingLayerNorm(shape)
    if name == "layer_norm":
        return nn.LayerNorm(shape, eps=1e-5)
    return nn.GroupNorm(min(32, shape[0] // 4), shape[0], eps=1e-5)
