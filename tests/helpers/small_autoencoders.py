"""What the tests of autoencoders share: a small one of random weights, and smooth images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lct_pipeline.models.autoencoder.fitting import build_autoencoder


def autoencoder(block_channels: Sequence[int] = (8, 16)) -> Any:
    torch.manual_seed(0)
    return build_autoencoder(block_channels=block_channels, latent_channels=2)


def images(num: int = 6) -> Tensor:
    """Smooth coloured gradients, uint8."""
    rng = np.random.default_rng(0)
    grid = np.linspace(0, 1, 16)
    slopes = rng.uniform(-120, 120, size=(num, 3, 2, 1, 1))
    values = 128 + slopes[:, :, 0] * grid[:, None] + slopes[:, :, 1] * grid / 2
    return torch.from_numpy(values.clip(0, 255).astype(np.uint8))
