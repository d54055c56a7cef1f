"""The diffusion transformer over patches of latents, with choices the sLCT authors made later.

Architecture: Peebles & Xie 2023 (DiT), adaLN-Zero blocks. The authors' log of sLCT's continuation
found ReLU in the MLP and rotary positions to help a DiT consistency model, and the non-scaling
norm not to.
"""

from __future__ import annotations

from typing import Literal

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

Positions = Literal["sinusoidal", "rotary"]
Activation = Literal["gelu", "relu"]

NUM_LEVEL_CHANNELS = 256  # sinusoids of the noise level, as in DiT
TOKEN_NORMS = (
    "non_scaling_layer_norm",
    "layer_norm",
    "non_affine_layer_norm",
    "rms_norm",
)


def _xavier(layer: nn.Linear) -> nn.Linear:
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _small(embedding: nn.Module) -> None:
    """Initialise as DiT does its embeddings: weights N(0, 0.02^2), biases 0."""
    for p in embedding.parameters():
        if p.ndim > 1:
            nn.init.normal_(p, std=0.02)
        else:
            nn.init.zeros_(p)


def _modulated(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return x * (1 + scale) + shift


def sinusoidal_positions(side: int, width: int) -> Tensor:
    """Return sines and cosines of column and row, ``(side * side, width)``, by row."""
    from diffusers.models.embeddings import get_2d_sincos_pos_embed

    return get_2d_sincos_pos_embed(
        width, side, base_size=side, output_type="pt"
    ).float()


def rotary_positions(side: int, head_width: int) -> Tensor:
    """Return cosines and sines of the angles that turn queries and keys.

    Source: Su et al. 2021 (RoFormer), axial: the first half of a head's channels turns with the
    column, the second with the row, two neighbouring channels at a time.

    Returns:
        Cosines and sines of shape ``(2, side * side, head_width)``, positions by row.
    """
    from diffusers.models.embeddings import get_2d_rotary_pos_embed

    corners, size = ((0, 0), (side, side)), (side, side)
    return torch.stack(
        get_2d_rotary_pos_embed(head_width, corners, size, output_type="pt")
    )


class Attention(nn.Module):
    """Multi-head self-attention over tokens, with queries and keys turned by their positions."""

    def __init__(self, width: int, head_width: int) -> None:
        super().__init__()
        self.num_heads = width // head_width
        self.qkv = _xavier(nn.Linear(width, 3 * width))
        self.project = _xavier(nn.Linear(width, width))

    def forward(self, x: Tensor, rotation: Tensor | None) -> Tensor:
        """Map ``(B, N, width)`` to the same shape.

        Args:
            x: Tokens.
            rotation: Cosines and sines ``(2, N, head_width)``, or None for no rotation.
        """
        qkv = self.qkv(x).unflatten(2, (3, self.num_heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, N, head_width)
        if rotation is not None:
            from diffusers.models.embeddings import apply_rotary_emb

            q, k = (apply_rotary_emb(part, tuple(rotation)) for part in (q, k))
        attended = F.scaled_dot_product_attention(q, k, v)
        return self.project(attended.transpose(1, 2).flatten(2))


class DiTBlock(nn.Module):
    """x + gate * branch((1 + scale) norm(x) + shift), first attention, then an MLP of ratio 4.

    Scales, shifts and gates come from the embedding of level and class. They are 0 at the start,
    so that the block starts as the identity (adaLN-Zero).
    """

    def __init__(
        self,
        width: int,
        head_width: int,
        *,
        activation: Activation,
        norm: NormName,
        dropout: float,
    ) -> None:
        super().__init__()
        self.modulation = zeroed(nn.Linear(width, 6 * width))
        self.norm0 = build_norm(norm, (width,))
        self.attention = Attention(width, head_width)
        self.norm1 = build_norm(norm, (width,))
        self.mlp = nn.Sequential(
            _xavier(nn.Linear(width, 4 * width)),
            {"gelu": nn.GELU("tanh"), "relu": nn.ReLU()}[activation],
            nn.Dropout(dropout),
            _xavier(nn.Linear(4 * width, width)),
        )

    def forward(self, x: Tensor, embedding: Tensor, rotation: Tensor | None) -> Tensor:
        """Map tokens ``(B, N, width)`` and ``(B, width)`` to tokens of the same shape."""
        modulation = self.modulation(embedding)[:, None]  # (B, 1, 6 * width)
        scale0, shift0, gate0, scale1, shift1, gate1 = modulation.chunk(6, dim=2)
        h = _modulated(self.norm0(x), scale0, shift0)
        x = x + gate0 * self.attention(h, rotation)
        h = _modulated(self.norm1(x), scale1, shift1)
        return x + gate1 * self.mlp(h)


class DiTNetwork(nn.Module):
    """The raw network F_x as a transformer over the patches of latents ``(C, S, S)``.

    Args:
        sample_shape: Shape of one latent.
        patch_size: Side of a patch, a divisor of S; each patch is a token.
        depth: Number of blocks.
        width: Channels of a token.
        head_width: Channels of an attention head, a multiple of 4 that divides ``width``.
        positions: ``sinusoidal`` adds a fixed table to the tokens, as DiT does; ``rotary`` turns
            queries and keys.
        activation: Of the MLPs; DiT has ``gelu``.
        norm: Norm of every block, over the channels of each token; one of ``TOKEN_NORMS``.
        output_norm: Norm before the last layer; one of ``TOKEN_NORMS``.
        dropout: Probability inside the MLPs.
        num_classes: Number of classes, 0 for an unconditional network; see
            :class:`~lct_pipeline.models.layers.ClassEmbedding`.

    Raises:
        ValueError: Latents are not square or do not divide into patches, channels do not divide
            into heads, or a norm is not one of tokens.
    """

    def __init__(
        self,
        sample_shape: tuple[int, int, int],
        *,
        patch_size: int,
        depth: int,
        width: int,
        head_width: int,
        positions: Positions,
        activation: Activation,
        norm: NormName,
        output_norm: NormName,
        dropout: float,
        num_classes: int,
    ) -> None:
        super().__init__()
        _check_sizes(sample_shape, patch_size, width, head_width)
        _check_norms(norm, output_norm)
        channels, side, _ = sample_shape
        self.patch_size = patch_size
        self.num_rows = side // patch_size
        self.embed = LevelEmbedding(NUM_LEVEL_CHANNELS, width)
        self.classes = ClassEmbedding(num_classes, width)
        _small(self.embed)
        _small(self.classes)

        self.input = nn.Conv2d(channels, width, patch_size, stride=patch_size)
        nn.init.xavier_uniform_(self.input.weight.detach().flatten(1))
        self.rotates = positions == "rotary"
        self.table: Tensor
        table = (
            rotary_positions(self.num_rows, head_width)
            if self.rotates
            else sinusoidal_positions(self.num_rows, width)
        )
        self.register_buffer("table", table, persistent=False)
        self.blocks = nn.ModuleList(
            DiTBlock(
                width, head_width, activation=activation, norm=norm, dropout=dropout
            )
            for _ in range(depth)
        )
        self.modulation = zeroed(nn.Linear(width, 2 * width))
        self.output_norm = build_norm(output_norm, (width,))
        self.output = zeroed(nn.Linear(width, channels * patch_size**2))

    def forward(
        self, x: Tensor, c_noise: Tensor, labels: Tensor | None = None
    ) -> Tensor:
        """Map ``(B, C, S, S)``, ``(B,)`` and classes ``(B,)`` or None to ``(B, C, S, S)``."""
        embedding = F.silu(self.classes(self.embed(c_noise), labels))
        h = self.input(x).flatten(2).transpose(1, 2)  # (B, N, width)
        h = h.to(x.dtype)  # under autocast the residual stream stays as wide as x
        if not self.rotates:
            h = h + self.table
        for block in self.blocks:
            h = block(h, embedding, self.table if self.rotates else None)
        scale, shift = self.modulation(embedding)[:, None].chunk(2, dim=2)
        patches = self.output(_modulated(self.output_norm(h), scale, shift))
        patches = patches.transpose(1, 2).unflatten(2, (self.num_rows, self.num_rows))
        return F.pixel_shuffle(patches, self.patch_size)


def _check_sizes(
    sample_shape: tuple[int, int, int], patch_size: int, width: int, head_width: int
) -> None:
    _, side, other = sample_shape
    if side != other or side % patch_size:
        raise ValueError(
            f"a DiT of patch_size={patch_size} needs square latents whose side is a multiple "
            f"of {patch_size}, got {side}x{other}"
        )
    if width % head_width or head_width % 4:
        raise ValueError(
            f"width={width} must be a multiple of head_width={head_width}, and that of 4"
        )


def _check_norms(*names: NormName) -> None:
    for name in names:
        if name not in TOKEN_NORMS:
            raise ValueError(
                f"a DiT normalises the channels of each token, by {', '.join(TOKEN_NORMS)}: "
                f"{name} is none of them"
            )
