"""The ADM U-Net, the network of the paper, with a choice of norm.

Architecture: Dhariwal & Nichol 2021 in the form of Karras et al. 2022 (EDM), as sLCT uses it: 128
channels, multipliers 1-2-3-4, four residual blocks a level, attention at 16 and 8, 64 channels a
head, scale and shift from the noise level (AdaGN).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from torch import Tensor, cat, nn
from torch.nn import functional as F

from lct_pipeline.models.layers import (
    ClassEmbedding,
    LevelEmbedding,
    NormName,
    build_norm,
    zeroed,
)

Resample = Literal["keep", "down", "up"]


def _resample(x: Tensor, how: Resample) -> Tensor:
    if how == "down":
        return F.avg_pool2d(x, 2)
    if how == "up":
        return F.interpolate(x, scale_factor=2, mode="nearest")
    return x


class SelfAttention(nn.Module):
    """x + proj(attention(norm(x))) over the positions of an image."""

    def __init__(
        self, channels: int, side: int, head_width: int, norm: NormName
    ) -> None:
        super().__init__()
        self.num_heads = max(1, channels // head_width)
        if channels % self.num_heads:
            raise ValueError(
                f"{channels} channels do not divide into {self.num_heads} attention heads"
            )
        self.norm = build_norm(norm, (channels, side, side))
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.project = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to the same shape."""
        B, C, H, W = x.shape
        qkv = self.qkv(self.norm(x)).view(
            B, 3, self.num_heads, C // self.num_heads, H * W
        )
        q, k, v = qkv.transpose(3, 4).unbind(1)  # each (B, heads, H * W, C / heads)
        attended = F.scaled_dot_product_attention(q, k, v)
        return x + self.project(attended.transpose(2, 3).reshape(B, C, H, W))


class ResidualBlock(nn.Module):
    """Two convolutions, with scale and shift from the level between them, then attention.

    There is attention in blocks that keep a side which is one of ``attention_sizes``.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        side_in: int,
        *,
        embedding_width: int,
        norm: NormName,
        dropout: float,
        attention_sizes: Sequence[int],
        head_width: int,
        resample: Resample = "keep",
    ) -> None:
        super().__init__()
        side = {"keep": side_in, "down": side_in // 2, "up": side_in * 2}[resample]
        self.resample: Resample = resample
        self.norm0 = build_norm(norm, (c_in, side_in, side_in))
        self.conv0 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.modulation = nn.Linear(embedding_width, 2 * c_out)
        self.norm1 = build_norm(norm, (c_out, side, side))
        self.dropout = nn.Dropout(dropout)
        self.conv1 = zeroed(nn.Conv2d(c_out, c_out, 3, padding=1))
        changed = c_in != c_out
        self.skip: nn.Module = nn.Conv2d(c_in, c_out, 1) if changed else nn.Identity()
        self.attention: nn.Module = (
            SelfAttention(c_out, side, head_width, norm)
            if resample == "keep" and side in attention_sizes
            else nn.Identity()
        )

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map ``(B, c_in, H, W)`` and ``(B, E)`` to ``(B, c_out, H', W')``."""
        h = self.conv0(_resample(F.silu(self.norm0(x)), self.resample))
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        h = F.silu(self.norm1(h) * (1 + scale) + shift)
        h = self.conv1(self.dropout(h))
        return self.attention(self.skip(_resample(x, self.resample)) + h)


def _down_path(
    block: Callable[..., ResidualBlock],
    width: int,
    widths: Sequence[int],
    num_blocks: int,
    side: int,
) -> list[ResidualBlock]:
    """Return the blocks of the way down: so many a level, halving before all but the first."""
    blocks, c = [], width
    for level, c_out in enumerate(widths):
        if level > 0:
            blocks.append(block(c, c, side, resample="down"))
            side //= 2
        for _ in range(num_blocks):
            blocks.append(block(c, c_out, side))
            c = c_out
    return blocks


def _up_path(
    block: Callable[..., ResidualBlock],
    skips: list[int],
    widths: Sequence[int],
    num_blocks: int,
    side: int,
) -> list[ResidualBlock]:
    """Return the blocks of the way up: one more a level than down, each with a skip."""
    blocks, c = [], widths[-1]
    for level, c_out in reversed(list(enumerate(widths))):
        for _ in range(num_blocks + 1):
            blocks.append(block(c + skips.pop(), c_out, side))
            c = c_out
        if level > 0:
            blocks.append(block(c, c, side, resample="up"))
            side *= 2
    return blocks


class UNetNetwork(nn.Module):
    """The raw network F_x as a U-Net over latents ``(C, S, S)``.

    Args:
        sample_shape: Shape of one latent; the side is divisible by 2^(levels - 1).
        width: Channels of the first level.
        multipliers: Channels of each level over ``width``; each level halves the side.
        num_blocks: Residual blocks a level.
        attention_sizes: Sides at which blocks have attention.
        head_width: Channels of an attention head.
        norm: Norm of every block and of attention.
        output_norm: Norm before the last convolution.
        dropout: Probability inside the blocks.
        num_classes: Number of classes, 0 for an unconditional network; see
            :class:`~lct_pipeline.models.layers.ClassEmbedding`.

    Raises:
        ValueError: The latents are not square or cannot be halved so often, channels do not
            divide into heads, or the norm needs more positions than a level has.
    """

    def __init__(
        self,
        sample_shape: tuple[int, int, int],
        *,
        width: int,
        multipliers: Sequence[int],
        num_blocks: int,
        attention_sizes: Sequence[int],
        head_width: int,
        norm: NormName,
        output_norm: NormName,
        dropout: float,
        num_classes: int,
    ) -> None:
        super().__init__()
        channels, side, other = sample_shape
        if side != other or side % 2 ** (len(multipliers) - 1):
            raise ValueError(
                f"a U-Net of {len(multipliers)} levels needs square latents whose side is a "
                f"multiple of {2 ** (len(multipliers) - 1)}, got {side}x{other}"
            )
        embedding_width = 4 * width
        self.embed = LevelEmbedding(width, embedding_width)
        self.classes = ClassEmbedding(num_classes, embedding_width)

        block = partial(
            ResidualBlock,
            embedding_width=embedding_width,
            norm=norm,
            dropout=dropout,
            attention_sizes=attention_sizes,
            head_width=head_width,
        )
        self.input = nn.Conv2d(channels, width, 3, padding=1)
        widths = [width * multiplier for multiplier in multipliers]
        down = _down_path(block, width, widths, num_blocks, side)
        skips = [width, *(b.conv0.out_channels for b in down)]
        self.down = nn.ModuleList(down)
        lowest = side // 2 ** (len(widths) - 1)
        self.middle = nn.ModuleList(
            block(widths[-1], widths[-1], lowest, attention_sizes=sizes)
            for sizes in ([lowest], [])
        )
        self.up = nn.ModuleList(_up_path(block, skips, widths, num_blocks, lowest))
        self.output_norm = build_norm(output_norm, (widths[0], side, side))
        self.output = zeroed(nn.Conv2d(widths[0], channels, 3, padding=1))

    def forward(
        self, x: Tensor, c_noise: Tensor, labels: Tensor | None = None
    ) -> Tensor:
        """Map ``(B, C, S, S)``, ``(B,)`` and classes ``(B,)`` or None to ``(B, C, S, S)``."""
        embedding = F.silu(self.classes(self.embed(c_noise), labels))
        h = self.input(x)
        skips = [h]
        for block in self.down:
            h = block(h, embedding)
            skips.append(h)
        for block in self.middle:
            h = block(h, embedding)
        for block in self.up:
            if block.resample == "keep":
                h = cat([h, skips.pop()], dim=1)
            h = block(h, embedding)
        return self.output(F.silu(self.output_norm(h)))
