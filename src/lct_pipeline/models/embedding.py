"""Embeddings of what a network is conditioned on: the noise level and the class."""

from __future__ import annotations

import math

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
