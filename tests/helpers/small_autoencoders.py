"""What the tests of autoencoders share: small ones of random weights, and smooth images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lct_pipeline.models.autoencoder import PixelAutoencoder, build_autoencoder

SIDES = ("encoder", "decoder")


def autoencoder(
    block_channels: Sequence[int] = (8, 16), latent_channels: int = 2
) -> Any:
    torch.manual_seed(0)
    return build_autoencoder(
        block_channels=block_channels, latent_channels=latent_channels
    )


def tiny() -> Any:
    from diffusers import AutoencoderTiny

    torch.manual_seed(0)
    widths = {f"{side}_block_out_channels": (8, 8, 8) for side in SIDES}
    blocks = {f"num_{side}_blocks": (1, 1, 1) for side in SIDES}
    return AutoencoderTiny(latent_channels=3, **widths, **blocks)


def deep_compression() -> Any:
    from diffusers import AutoencoderDC

    torch.manual_seed(0)
    levels = {
        "block_types": "ResBlock",
        "block_out_channels": (8, 16),
        "layers_per_block": (1, 1),
        "qkv_multiscales": ((), ()),
    }
    sides = {f"{side}_{k}": v for side in SIDES for k, v in levels.items()}
    return AutoencoderDC(latent_channels=4, attention_head_dim=4, **sides)


MAKERS = [autoencoder, tiny, deep_compression, PixelAutoencoder]


def images(num: int = 6, side: int = 16) -> Tensor:
    """Smooth coloured gradients, uint8."""
    rng = np.random.default_rng(0)
    grid = np.linspace(0, 1, side)
    slopes = rng.uniform(-120, 120, size=(num, 3, 2, 1, 1))
    values = 128 + slopes[:, :, 0] * grid[:, None] + slopes[:, :, 1] * grid / 2
    return torch.from_numpy(values.clip(0, 255).astype(np.uint8))
