"""Autoencoders between images and latents: three classes of diffusers, or none.

AutoencoderKL has a Gaussian posterior; AutoencoderTiny and AutoencoderDC encode without noise, a
posterior of standard deviation 0. Images are float in [-1, 1], ``(B, 3, H, W)``; latents are the
raw ones of the autoencoder, neither multiplied by its ``scaling_factor`` nor normalised.
"""

from __future__ import annotations

import math
from copy import deepcopy
from types import SimpleNamespace
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from diffusers import AutoencoderDC, AutoencoderKL, AutoencoderTiny

Autoencoder: TypeAlias = (
    "AutoencoderKL | AutoencoderTiny | AutoencoderDC | PixelAutoencoder"
)
Precision: TypeAlias = Literal["float32", "bfloat16"]


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


DIFFUSERS_CLASSES = ("AutoencoderKL", "AutoencoderTiny", "AutoencoderDC")


def to_float(images: Tensor) -> Tensor:
    """Map uint8 images to float32 in [-1, 1]."""
    return images.float() / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """Map float images in [-1, 1] to uint8, rounding to the nearest level."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


@torch.no_grad()
def encode(autoencoder: Autoencoder, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of the posterior of uint8 images ``(B, 3, H, W)``.

    Both are float32, ``(B, C, h, w)``, and where the autoencoder is, whatever its precision.
    """
    x = to_float(images.to(autoencoder.device, non_blocking=True))
    x = x.to(autoencoder.dtype, memory_format=torch.channels_last)
    (encoded,) = autoencoder.encode(x, return_dict=False)
    if isinstance(encoded, Tensor):  # without noise
        return encoded.float(), torch.zeros_like(encoded, dtype=torch.float32)
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


def squared_error(images: Tensor, reconstructions: Tensor) -> int:
    """Return the sum of squared differences of uint8 images."""
    difference = images.int() - reconstructions.int()
    return int(difference.square().sum())


def psnr(squared_error: int, num_values: int) -> float:
    """Return the peak signal-to-noise ratio in dB over ``num_values`` values together."""
    if squared_error == 0:
        return math.inf
    return 10 * math.log10(255**2 * num_values / squared_error)
