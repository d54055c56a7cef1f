"""The ADM U-Net, the network of the paper, with a choice of norm.

Architecture: Dhariwal & Nichol 2021 in the form of Karras et al. 2022 (EDM), as sLCT uses it: 128
channels, multipliers 1-2-3-4, four residual blocks a level, attention at 16 and 8, 64 channels a
head, scale and shift from the noise level (AdaGN).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, cat, nn
from torch.nn import functional as F

from lct_pipeline.models.embedding import sinusoidal_embedding
from lct_pipeline.models.norms import NormName, build_norm

Resample = Literal["keep", "down", "up"]


def _resample(x: Tensor, how: Resample) -> Tensor:
    if how == "down":
        return F.avg_pool2d(x, 2)
    if how == "up":
        return F.interpolate(x, scale_factor=2, mode="nearest")
    return x


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


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
        self.project = _zero(nn.Conv2d(channels, channels, 1))

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
    """Two convolutions, with scale and shift from the level between them, then attention."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        side_in: int,
        embedding_width: int,
        *,
        norm: NormName,
        dropout: float,
        resample: Resample = "keep",
        head_width: int | None = None,
    ) -> None:
        super().__init__()
        side = {"keep": side_in, "down": side_in // 2, "up": side_in * 2}[resample]
        self.resample: Resample = resample
        self.norm0 = build_norm(norm, (c_in, side_in, side_in))
        self.conv0 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.modulation = nn.Linear(embedding_width, 2 * c_out)
        self.norm1 = build_norm(norm, (c_out, side, side))
        self.dropout = nn.Dropout(dropout)
        self.conv1 = _zero(nn.Conv2d(c_out, c_out, 3, padding=1))
        changed = c_in != c_out
        self.skip: nn.Module = nn.Conv2d(c_in, c_out, 1) if changed else nn.Identity()
        self.attention: nn.Module = (
            SelfAttention(c_out, side, head_width, norm)
            if head_width
            else nn.Identity()
        )

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map ``(B, c_in, H, W)`` and ``(B, E)`` to ``(B, c_out, H', W')``."""
        h = self.conv0(_resample(F.silu(self.norm0(x)), self.resample))
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        h = F.silu(self.norm1(h) * (1 + scale) + shift)
        h = self.conv1(self.dropout(h))
        return self.attention(self.skip(_resample(x, self.resample)) + h)


class UNetDenoiser(nn.Module):
    """The raw network F_x as a U-Net over latents ``(C, S, S)``.

    Args:
        sample_shape: Shape of one latent; the side is divisible by 2^(levels - 1).
        width: Channels of the first level.
        multipliers: Channels of each level over ``width``; each level halves the side.
        num_blocks: Residual blocks a level.
        attention_sizes: Sides at which blocks have attention.
        head_width: Channels of an attention head.
        norm: Norm of every block, of attention and of the output.
        dropout: Probability inside the blocks.

    Raises:
        ValueError: The latents are not square or cannot be halved so often, or channels do not
            divide into heads.
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
        dropout: float,
    ) -> None:
        super().__init__()
        channels, side, other = sample_shape
        if side != other or side % 2 ** (len(multipliers) - 1):
            raise ValueError(
                f"a U-Net of {len(multipliers)} levels needs square latents whose side is a "
                f"multiple of {2 ** (len(multipliers) - 1)}, got {side}x{other}"
            )
        self.width = width
        embedding_width = 4 * width
        self.embed = nn.Sequential(
            nn.Linear(width, embedding_width),
            nn.SiLU(),
            nn.Linear(embedding_width, embedding_width),
            nn.SiLU(),
        )

        def block(
            c_in: int, c_out: int, at: int, resample: Resample = "keep"
        ) -> ResidualBlock:
            result = {"keep": at, "down": at // 2, "up": at * 2}[resample]
            attends = resample == "keep" and result in attention_sizes
            return ResidualBlock(
                c_in,
                c_out,
                at,
                embedding_width,
                norm=norm,
                dropout=dropout,
                resample=resample,
                head_width=head_width if attends else None,
            )

        # down: at each level num_blocks blocks, halving before all but the first
        self.input = nn.Conv2d(channels, width, 3, padding=1)
        self.down = nn.ModuleList()
        skips, c = [width], width
        for level, multiplier in enumerate(multipliers):
            if level > 0:
                self.down.append(block(c, c, side, "down"))
                side //= 2
                skips.append(c)
            for _ in range(num_blocks):
                self.down.append(block(c, width * multiplier, side))
                c = width * multiplier
                skips.append(c)

        # middle: two blocks, the first with attention
        self.middle = nn.ModuleList(
            ResidualBlock(
                c,
                c,
                side,
                embedding_width,
                norm=norm,
                dropout=dropout,
                head_width=heads,
            )
            for heads in (head_width, None)
        )

        # up: at each level one block more than on the way down, each with a skip
        self.up = nn.ModuleList()
        for level, multiplier in reversed(list(enumerate(multipliers))):
            for _ in range(num_blocks + 1):
                self.up.append(block(c + skips.pop(), width * multiplier, side))
                c = width * multiplier
            if level > 0:
                self.up.append(block(c, c, side, "up"))
                side *= 2
        self.output_norm = build_norm(norm, (c, side, side))
        self.output = _zero(nn.Conv2d(c, channels, 3, padding=1))

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        """Map ``(B, C, S, S)`` and ``(B,)`` to ``(B, C, S, S)``."""
        embedding = self.embed(sinusoidal_embedding(c_noise, self.width))
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
