"""Autoencoders between images and latents: three classes of diffusers, or none; fitting of one.

AutoencoderKL has a Gaussian posterior; AutoencoderTiny and AutoencoderDC encode without noise, a
posterior of standard deviation 0. Images are float in [-1, 1], ``(B, 3, H, W)``; latents are the
raw ones of the autoencoder, neither multiplied by its ``scaling_factor`` nor normalised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lct_pipeline.core.randomness import derived_generator
from lct_pipeline.errors import MeasureError

if TYPE_CHECKING:
    from diffusers import AutoencoderDC, AutoencoderKL, AutoencoderTiny

Autoencoder: TypeAlias = (
    "AutoencoderKL | AutoencoderTiny | AutoencoderDC | PixelAutoencoder"
)
Precision: TypeAlias = Literal["float32", "bfloat16"]
TrainedKind: TypeAlias = Literal["AutoencoderDC", "AutoencoderKL"]
CONSTANT_NOISE = 0.1  # of latents of about unit variance, where none is learnt
DIFFUSERS_CLASSES = ("AutoencoderKL", "AutoencoderTiny", "AutoencoderDC")


class PixelAutoencoder(nn.Module):
    """No autoencoder: the latents are the pixels, behind the calls of an AutoencoderDC.

    It has no weights.
    """

    dtype = torch.float32

    def __init__(self) -> None:
        super().__init__()
        self.config = {"encoder_block_out_channels": (3,)}  # one resolution
        self.encoder = nn.Identity()
        self._moved: Tensor  # along with the module: it tells where that is
        self.register_buffer("_moved", torch.empty(0), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where it was moved to."""
        return self._moved.device

    def encode(self, images: Tensor, *, return_dict: bool = False) -> tuple[Tensor]:
        """Return float images ``(B, 3, H, W)``."""
        return (self.encoder(images),)

    def decode(self, latents: Tensor) -> SimpleNamespace:
        """Return latents ``(B, 3, H, W)``, clamped to [-1, 1], as the images ``sample``."""
        return SimpleNamespace(sample=latents.clamp(-1, 1))


def to_float(images: Tensor) -> Tensor:
    """Map uint8 images to float32 in [-1, 1]."""
    return images.float() / 127.5 - 1


def to_uint8(
    images: Tensor, made_by: str = "a model", *, truncated: bool = False
) -> Tensor:
    """Map float images in [-1, 1] to uint8: here alone, images become bytes.

    Args:
        images: Of any shape.
        made_by: What made them, for the message.
        truncated: Whether the values 255 (x + 1) / 2 lose their fraction, as in sLCT's code: half a
            level of brightness on average, which moves the Frechet distance. Else they are rounded
            to the nearest level.

    Raises:
        MeasureError: They are not finite, which bytes would not say: they would be black.
    """
    if not images.isfinite().all():
        raise MeasureError(
            f"{made_by} gives images that are not finite, in {images.dtype}: its weights are "
            "damaged, or too large for a precision that it was stored in."
        )
    levels = images.clamp(-1, 1) + 1
    return (levels / 2 * 255 if truncated else (levels * 127.5).round()).to(torch.uint8)


def title_of(autoencoder: Autoencoder) -> str:
    """Return what messages call an autoencoder."""
    kind = type(autoencoder).__name__
    return f"the autoencoder ({kind} of {autoencoder.dtype} weights)"


@torch.no_grad()
def encode(autoencoder: Autoencoder, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of the posterior of uint8 images ``(B, 3, H, W)``.

    Both are float32, ``(B, C, h, w)``, and where the autoencoder is, whatever its precision.
    """
    x = to_float(images.to(autoencoder.device, non_blocking=True))
    x = x.to(autoencoder.dtype, memory_format=torch.channels_last)
    return posterior(autoencoder, x)


def posterior(
    autoencoder: Autoencoder, images: Tensor, noise: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation, ``(B, C, h, w)``, of float images ``(B, 3, H, W)``.

    Both are float32. ``noise`` is the standard deviation where the autoencoder has none.
    """
    (encoded,) = autoencoder.encode(images, return_dict=False)
    if isinstance(encoded, Tensor):
        return encoded.float(), torch.full_like(encoded, noise, dtype=torch.float32)
    return encoded.mean.float(), (0.5 * encoded.logvar.float()).exp()


@torch.no_grad()
def decode(autoencoder: Autoencoder, latents: Tensor) -> Tensor:
    """Return float images in [-1, 1] of raw latents ``(B, C, h, w)``, float32 or float16."""
    return autoencoder.decode(latents.float()).sample


def side_divisor(autoencoder: Autoencoder) -> int:
    """Return how many times the side of an image is that of its latents."""
    config = autoencoder.config
    channels = config.get("block_out_channels") or config["encoder_block_out_channels"]
    return 2 ** (len(channels) - 1)


def place(autoencoder: Autoencoder, device: torch.device) -> Autoencoder:
    """Move to a device, channels last: twice as fast in convolutions on a CPU."""
    return autoencoder.to(device).to(memory_format=torch.channels_last)


def automatic_precision(device: torch.device) -> Precision:
    """Return bfloat16 for a GPU that computes in it, else float32."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported(
        including_emulation=False
    ):
        return "bfloat16"
    return "float32"


def copy_for_encoding(
    autoencoder: Autoencoder,
    device: torch.device,
    precision: Precision,
    *,
    compiled: bool,
) -> Autoencoder:
    """Return a copy that encodes on a device, channels last.

    In bfloat16 the weights are, not only the products: normalisation layers, which autocast would
    compute in float32, take most of the memory traffic. The moments of a small autoencoder on
    CIFAR-10 differed by an RMS of 0.4 % of their standard deviation either way.

    Args:
        autoencoder: Stays as it is.
        device: Where to.
        precision: Of weights and activations.
        compiled: Compile the encoder.
    """
    model = place(deepcopy(autoencoder), device)
    if precision == "bfloat16":
        model = model.bfloat16()
    if compiled:
        model.encoder.compile()
    return model


def build_autoencoder(
    kind: TrainedKind, *, block_channels: Sequence[int], latent_channels: int
) -> AutoencoderKL | AutoencoderDC:
    """Return a small autoencoder of random weights, to be fitted where none is named.

    An AutoencoderDC of several resolutions has no layers at the first of them: pixels are moved
    into channels on the way in, and out of them on the way out (DC-AE, Chen et al. 2024), so its
    work is at half the side and below.

    Args:
        kind: Class of diffusers.
        block_channels: Channels of each resolution; each but the last halves the side.
        latent_channels: Channels of the latents.
    """
    import diffusers  # takes seconds

    arguments = {"AutoencoderDC": _dc_levels, "AutoencoderKL": _kl_levels}[kind]
    return getattr(diffusers, kind)(
        latent_channels=latent_channels,
        scaling_factor=1.0,
        **arguments(tuple(block_channels)),
    )


def _kl_levels(channels: tuple[int, ...]) -> dict[str, Any]:
    return {
        "block_out_channels": channels,
        "down_block_types": ("DownEncoderBlock2D",) * len(channels),
        "up_block_types": ("UpDecoderBlock2D",) * len(channels),
        "layers_per_block": 1,
        "norm_num_groups": max(1, min(channels) // 2),
    }


def _dc_levels(channels: tuple[int, ...]) -> dict[str, Any]:
    of_side = {
        "block_types": "ResBlock",
        "block_out_channels": channels,
        "layers_per_block": (int(len(channels) == 1), *(1 for _ in channels[1:])),
        "qkv_multiscales": ((),) * len(channels),  # no attention
    }
    sides = ("encoder", "decoder")
    return {f"{side}_{name}": of_side[name] for side in sides for name in of_side}


def fit_autoencoder(
    autoencoder: AutoencoderKL | AutoencoderDC,
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
    standard normal. An autoencoder that encodes without noise is fitted with a constant one, so
    that its decoder takes latents that are nearly right (Ghosh et al. 2020, CV-VAE). One-cycle
    learning rate, Adam.

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
    optimizer = torch.optim.Adam(
        autoencoder.parameters(), lr=learning_rate, foreach=True
    )
    rise = 0.1 if num_steps > 10 else 0.3  # torch divides by 0 if one step is the rise
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, learning_rate, total_steps=num_steps, pct_start=rise
    )
    autoencoder.train()
    for step in range(num_steps):
        generator = derived_generator(seed, "autoencoder", step)
        indices = torch.randint(num_images, (batch_size,), generator=generator)
        images = to_float(read_batch(indices).to(device))
        images = images.contiguous(memory_format=torch.channels_last)
        mean, std = posterior(autoencoder, images, CONSTANT_NOISE)
        noise = torch.randn(mean.shape, generator=generator).to(device)
        reconstruction = autoencoder.decode(mean + std * noise)
        kl = 0.5 * (mean**2 + std**2 - 1 - 2 * std.log()).mean()
        loss = F.mse_loss(reconstruction.sample, images) + kl_weight * kl
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        scheduler.step()
        yield loss.item()
    autoencoder.eval()
