"""The small AutoencoderKL that is fitted where no autoencoder is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from lct_pipeline.core.randomness import derived_generator
from lct_pipeline.models.autoencoder.coding import to_float

if TYPE_CHECKING:
    from diffusers import AutoencoderKL


def build_autoencoder(
    *, block_channels: Sequence[int], latent_channels: int
) -> AutoencoderKL:
    """Return a small AutoencoderKL of random weights.

    Args:
        block_channels: Channels of each resolution; each but the last halves the side.
        latent_channels: Channels of the latents.
    """
    from diffusers import AutoencoderKL

    num_levels = len(block_channels)
    return AutoencoderKL(
        block_out_channels=tuple(block_channels),
        down_block_types=("DownEncoderBlock2D",) * num_levels,
        up_block_types=("UpDecoderBlock2D",) * num_levels,
        layers_per_block=1,
        latent_channels=latent_channels,
        norm_num_groups=max(1, min(block_channels) // 2),
        scaling_factor=1.0,
    )


def fit_autoencoder(
    autoencoder: AutoencoderKL,
    read_batch: Callable[[Tensor], Tensor],
    num_images: int,
    *,
    num_steps: int,
    batch_size: int,
    learning_rate: float,
    kl_weight: float,
    seed: int,
) -> Iterator[float]:
    """Fit by reconstruction and KL (Rombach et al. 2022, without the adversarial term).

    The loss is the mean squared error plus ``kl_weight`` times the mean KL per latent value to a
    standard normal. One-cycle learning rate, Adam.

    Args:
        autoencoder: Changed in place.
        read_batch: Returns uint8 images ``(B, 3, H, W)`` for indices ``(B,)``.
        num_images: Number of images that the indices run over.
        num_steps: Number of steps.
        batch_size: Images a step.
        learning_rate: Peak of the learning rate.
        kl_weight: Weight of the KL term.
        seed: Seed of the batches and of the posterior samples.

    Yields:
        The loss of each step.
    """
    device = autoencoder.device
    optimizer = torch.optim.Adam(autoencoder.parameters(), lr=learning_rate)
    rise = 0.1 if num_steps > 10 else 0.3  # torch divides by 0 if one step is the rise
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, learning_rate, total_steps=num_steps, pct_start=rise
    )
    autoencoder.train()
    for step in range(num_steps):
        generator = derived_generator(seed, "autoencoder", step)
        indices = torch.randint(num_images, (batch_size,), generator=generator)
        images = to_float(read_batch(indices).to(device))
        posterior = autoencoder.encode(images).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator).to(device)
        reconstruction = autoencoder.decode(posterior.mean + posterior.std * noise)
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        loss = F.mse_loss(reconstruction.sample, images) + kl_weight * kl
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        scheduler.step()
        yield loss.item()
    autoencoder.eval()
