"""The autoencoder between images and latents: diffusers' AutoencoderKL, or none.

Images are float in [-1, 1], ``(B, 3, H, W)``; latents are the raw ones of the autoencoder, neither
multiplied by its ``scaling_factor`` nor normalised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lct_pipeline.core.randomness import derived_generator

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

Autoencoder: TypeAlias = "AutoencoderKL | PixelAutoencoder"


class PixelAutoencoder(nn.Module):
    """No autoencoder: the latents are the pixels, behind the calls of an AutoencoderKL.

    It has no weights. Its posterior is the image in [-1, 1] itself, with standard deviation 0.
    """

    def __init__(self) -> None:
        super().__init__()
        self._moved: Tensor  # along with the module: it tells where that is
        self.register_buffer("_moved", torch.empty(0), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where it was moved to."""
        return self._moved.device

    def encode(self, images: Tensor) -> SimpleNamespace:
        """Return the posterior of float images ``(B, 3, H, W)`` as ``latent_dist``."""
        posterior = SimpleNamespace(mean=images, std=torch.zeros_like(images))
        return SimpleNamespace(latent_dist=posterior)

    def decode(self, latents: Tensor) -> SimpleNamespace:
        """Return latents ``(B, 3, H, W)``, clamped to [-1, 1], as the images ``sample``."""
        return SimpleNamespace(sample=latents.clamp(-1, 1))


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


def to_float(images: Tensor) -> Tensor:
    """Map uint8 images to float32 in [-1, 1]."""
    return images.float() / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """Map float images in [-1, 1] to uint8, rounding to the nearest level."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


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


@torch.no_grad()
def encode(autoencoder: Autoencoder, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of the posterior of uint8 images, float32."""
    posterior = autoencoder.encode(to_float(images.to(autoencoder.device))).latent_dist
    return posterior.mean.float().cpu(), posterior.std.float().cpu()


@torch.no_grad()
def decode(autoencoder: Autoencoder, latents: Tensor) -> Tensor:
    """Return float images in [-1, 1] of raw latents ``(B, C, h, w)``."""
    return autoencoder.decode(latents).sample


def psnr(images: Tensor, reconstructions: Tensor) -> float:
    """Return the peak signal-to-noise ratio in dB of uint8 images over all values together."""
    mse = (images.double() - reconstructions.double()).square().mean().item()
    return (
        float("inf")
        if mse == 0
        else float(10 * torch.log10(torch.tensor(255**2 / mse)))
    )


def place(autoencoder: Autoencoder, device: torch.device) -> Autoencoder:
    """Move to a device, channels last: twice as fast in convolutions on a CPU."""
    return autoencoder.to(device).to(memory_format=torch.channels_last)
