"""Normalisation layers: the Non-scaling LayerNorm of sLCT, and the others of its ablation.

Every norm computes in float32, also under autocast, and returns the type of its input: sums over
a sample lose the small differences that bfloat16 cannot hold.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

NormName = Literal[
    "non_scaling_layer_norm",
    "layer_norm",
    "group_norm",
    "non_scaling_group_norm",
    "instance_norm",
    "non_scaling_instance_norm",
    "rms_norm",
]


class _InFloat32(nn.Module):
    """What the norms of torch do, in float32."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``(..., *shape)``, a group norm ``(B, C, ...)``."""
        return super().forward(x.float()).to(x.dtype)


class LayerNorm(_InFloat32, nn.LayerNorm):
    """LayerNorm with learned scale and bias."""


class RMSNorm(_InFloat32, nn.RMSNorm):
    """y = gamma x / sqrt(mean(x^2) + eps) (Zhang & Sennrich 2019)."""


class GroupNorm(_InFloat32, nn.GroupNorm):
    """GroupNorm with learned scale and bias per channel."""


class NonScalingLayerNorm(LayerNorm):
    """LayerNorm over the axes of one sample, with a learned bias and no learned scale.

    y = (x - mean) / sqrt(var + eps) + beta, beta of the shape of one sample and 0 at the start.
    A learned scale would amplify the channels in which outliers live; sLCT fixes it to 1.

    Args:
        shape: Shape of what is normalised together: a sample's ``(C, H, W)`` or ``(D,)``.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape, eps=1e-5, elementwise_affine=False)
        self.bias = nn.Parameter(torch.zeros(shape))


class NonScalingGroupNorm(GroupNorm):
    """GroupNorm with a learned bias per channel, 0 at the start, and no learned scale."""

    def __init__(self, num_groups: int, num_channels: int) -> None:
        super().__init__(num_groups, num_channels, affine=False)
        self.bias = nn.Parameter(torch.zeros(num_channels))


def _num_groups(name: NormName, shape: tuple[int, ...]) -> int:
    """Return how many groups of channels ``name`` normalises apart: for instances, each."""
    if name not in ("instance_norm", "non_scaling_instance_norm"):
        return min(32, shape[0] // 4)
    if math.prod(shape[1:]) == 1:
        raise ValueError(
            f"{name} normalises each channel over its positions, and a sample of shape "
            f"{shape} has only one"
        )
    return shape[0]


def build_norm(name: NormName, shape: tuple[int, ...]) -> nn.Module:
    """Return the norm ``name`` for samples of ``shape``, ``(C, H, W)`` or ``(D,)``.

    Layer norms and the RMS norm act over all of ``shape`` and learn one value per element; group
    norms have groups of four channels or more, 32 at most; an instance norm is a group norm with
    one channel a group.

    Raises:
        ValueError: An instance norm is asked for samples of a single position.
    """
    match name:
        case "non_scaling_layer_norm":
            return NonScalingLayerNorm(shape)
        case "layer_norm":
            return LayerNorm(shape, eps=1e-5)
        case "rms_norm":
            return RMSNorm(shape, eps=1e-5)
        case "group_norm" | "instance_norm":
            return GroupNorm(_num_groups(name, shape), shape[0])
        case "non_scaling_group_norm" | "non_scaling_instance_norm":
            return NonScalingGroupNorm(_num_groups(name, shape), shape[0])
