"""Layers of all networks: embeddings of level and class, norms, and layers that start as zero.

The norms are the Non-scaling LayerNorm of sLCT, and the others of its ablation. Every one computes
in float32, also under autocast, and returns the type of its input: sums over a sample lose the
small differences that bfloat16 cannot hold.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn


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


class LevelEmbedding(nn.Sequential):
    """Linear(SiLU(Linear(sinusoids of the noise level))), before the last activation.

    Args:
        num_channels: Number of sinusoids, even.
        width: Width of the embedding.
    """

    def __init__(self, num_channels: int, width: int) -> None:
        super().__init__(
            nn.Linear(num_channels, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.num_channels = num_channels

    def forward(self, c_noise: Tensor) -> Tensor:
        """Map levels ``(B,)`` to ``(B, width)``."""
        return super().forward(sinusoidal_embedding(c_noise, self.num_channels))


class ClassEmbedding(nn.Module):
    """Adds a learned vector of the class to the embedding of the level.

    The sum goes through the network's last SiLU of the embedding, as in EDM's form of the ADM
    U-Net and in DiT. The last vector is the null class of classifier-free guidance (Ho & Salimans
    2022): it stands for "any class".

    Args:
        num_classes: Number of classes; 0 makes a module without weights, which adds nothing.
        width: Width of the embedding.
    """

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        self.vectors = nn.Embedding(num_classes + 1, width) if num_classes else None

    def forward(self, embedding: Tensor, labels: Tensor | None) -> Tensor:
        """Return the embedding ``(B, width)`` of level and class.

        Args:
            embedding: Embedding of the level, ``(B, width)``.
            labels: ``(B,)``, int64, classes from 0 on, ``num_classes`` for the null class; None
                is the null class for all.

        Raises:
            ValueError: There are labels and no classes.
        """
        if self.vectors is not None:
            vectors = (
                self.vectors.weight[-1] if labels is None else self.vectors(labels)
            )
            return embedding + vectors
        if labels is not None:
            raise ValueError("labels were given to a network with num_classes=0")
        return embedding


NormName = Literal[
    "non_scaling_layer_norm",
    "layer_norm",
    "non_affine_layer_norm",
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
    """y = gamma x / sqrt(mean(x^2) + eps) (Zhang & Sennrich 2019), eps that of float32."""


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

    Layer norms and the RMS norm act over all of ``shape`` and learn one value per element, but that
    of DiT none: its modulation scales and shifts. Group norms have groups of four channels or more,
    32 at most; an instance norm is a group norm with one channel a group.

    Raises:
        ValueError: An instance norm is asked for samples of a single position.
    """
    match name:
        case "non_scaling_layer_norm":
            return NonScalingLayerNorm(shape)
        case "layer_norm":
            return LayerNorm(shape, eps=1e-5)
        case "non_affine_layer_norm":  # eps as in DiT
            return LayerNorm(shape, eps=1e-6, elementwise_affine=False)
        case "rms_norm":  # without an eps torch takes the machine epsilon of its input
            return RMSNorm(shape)
        case "group_norm" | "instance_norm":
            return GroupNorm(_num_groups(name, shape), shape[0])
        case "non_scaling_group_norm" | "non_scaling_instance_norm":
            return NonScalingGroupNorm(_num_groups(name, shape), shape[0])


def zeroed(layer: nn.Module) -> nn.Module:
    """Return a layer with weights and biases 0: what it ends starts as nothing, or the identity."""
    for p in layer.parameters():
        nn.init.zeros_(p)
    return layer
