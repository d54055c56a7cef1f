"""A residual MLP denoiser for small latents, up to some hundreds of values.

At 4x4x4 a convolution has nothing to slide over: an MLP with adaptive norms learns digits in
minutes on a CPU, where a U-Net or a token transformer of the same cost does not.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lct_pipeline.models.layers import (
    ClassEmbedding,
    LevelEmbedding,
    NormName,
    build_norm,
    zeroed,
)


class ResidualBlock(nn.Module):
    """x + Linear(SiLU(Linear((1 + scale) norm(x) + shift))), scale and shift from the level."""

    def __init__(
        self, width: int, embedding_width: int, norm: NormName, dropout: float
    ) -> None:
        super().__init__()
        self.norm = build_norm(norm, (width,))
        self.modulation = nn.Linear(embedding_width, 2 * width)
        self.expand = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.project = zeroed(nn.Linear(width, width))

    def forward(
        self, x: Tensor, embedding: Tensor, rows: Tensor | None = None
    ) -> Tensor:
        """Map ``(B, width)`` to ``(B, width)``; ``rows``, ``(B,)``: each sample's embedding."""
        modulation = self.modulation(embedding)
        if rows is not None:
            modulation = F.embedding(rows, modulation)
        scale, shift = modulation.chunk(2, dim=1)
        h = F.silu(self.norm(x) * (1 + scale) + shift)
        return x + self.project(self.dropout(F.silu(self.expand(h))))


class MLPNetwork(nn.Module):
    """The raw network F_x over flattened latents.

    Args:
        sample_shape: Shape ``(C, H, W)`` of one latent.
        width: Width of the residual stream.
        num_blocks: Number of residual blocks.
        norm: Norm before each block; over ``(width,)`` it normalises all values of a sample, as
            the paper's does over ``[C, H, W]``.
        output_norm: Norm before the last layer.
        dropout: Probability inside the blocks.
        num_classes: Number of classes, 0 for an unconditional network; see
            :class:`~lct_pipeline.models.layers.ClassEmbedding`.

    Raises:
        ValueError: The norm needs channels with positions.
    """

    def __init__(
        self,
        sample_shape: tuple[int, int, int],
        *,
        width: int,
        num_blocks: int,
        norm: NormName,
        output_norm: NormName,
        dropout: float,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.sample_shape = sample_shape
        dimension = math.prod(sample_shape)
        embedding_width = width // 2
        self.embed = LevelEmbedding(embedding_width, embedding_width)
        self.classes = ClassEmbedding(num_classes, embedding_width)
        self.input = nn.Linear(dimension, width)
        self.blocks = nn.ModuleList(
            ResidualBlock(width, embedding_width, norm, dropout)
            for _ in range(num_blocks)
        )
        self.output_norm = build_norm(output_norm, (width,))
        self.output = zeroed(nn.Linear(width, dimension))

    def forward(
        self, x: Tensor, c_noise: Tensor, labels: Tensor | None = None
    ) -> Tensor:
        """Map ``(B, C, H, W)``, ``(B,)`` and classes ``(B,)`` or None to ``(B, C, H, W)``."""
        c_noise, rows = _distinct(c_noise, labels)
        embedding = F.silu(self.classes(self.embed(c_noise), labels))
        h = self.input(x.flatten(1))
        for block in self.blocks:
            h = block(h, embedding, rows)
        return self.output(F.silu(self.output_norm(h))).unflatten(1, self.sample_shape)


def _distinct(c_noise: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return the levels to embed, and which of them each sample has, ``(B,)``; None: its own.

    On a grid a batch has few levels, and to modulate by each sample's would be a third of all work.
    On a GPU, compiled or exported, their number has to be known: each sample has its own.
    """
    on_cpu = c_noise.device.type == "cpu"
    if labels is None and on_cpu and not torch.compiler.is_compiling():
        return c_noise.unique(return_inverse=True)
    return c_noise, None
