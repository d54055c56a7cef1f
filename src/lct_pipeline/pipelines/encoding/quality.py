"""How well the autoencoder gives images back: PSNR and, where its weights are there, LPIPS."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from lct_pipeline.errors import DataError
from lct_pipeline.models.autoencoder.coding import psnr, squared_error
from lct_pipeline.models.autoencoder.lpips_distance import (
    MIN_SIDE,
    Distance,
    alexnet_file,
    lpips_distance,
)
from lct_pipeline.parameters.data import Encoding

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReconstructionQuality:
    """PSNR over all values together in dB, mean LPIPS, and of how many images."""

    psnr: float
    lpips: float | None
    num_images: int


def reconstruction_quality(
    pairs: Iterable[tuple[Tensor, Tensor]], distance: Distance | None
) -> ReconstructionQuality:
    """Reduce pairs of uint8 batches, images and reconstructions ``(B, 3, H, W)``.

    Args:
        pairs: One batch is in memory at a time.
        distance: LPIPS of the images of a batch; None leaves it out.
    """
    error, total, num_values, num_images = 0, 0.0, 0, 0
    for images, reconstructions in pairs:
        error += squared_error(images, reconstructions)
        num_values += images.numel()
        num_images += len(images)
        if distance is not None:
            total += distance(images, reconstructions).sum().item()
    lpips = None if distance is None else total / num_images
    return ReconstructionQuality(psnr(error, num_values), lpips, num_images)


def lpips_if_there(
    parameters: Encoding, side: int, device: torch.device
) -> Distance | None:
    """Return LPIPS; None, with a line in the log, where it cannot be computed.

    It is not computed below 64 pixels, the side of the images that it was fitted on: the last of
    its maps would be single pixels, and images that are enlarged for it are not what a person sees.

    Args:
        parameters: May name the file of AlexNet's weights.
        side: Of the images.
        device: Where to.

    Raises:
        DataError: The named file is not there.
    """
    if side < MIN_SIDE:
        logger.info("No LPIPS: images of %d pixels; it needs %d.", side, MIN_SIDE)
        return None
    path = alexnet_file(parameters.lpips_path)
    if path.is_file():
        return lpips_distance(path, device)
    if parameters.lpips_path:
        raise DataError(
            f"encoding.lpips_path={parameters.lpips_path!r}: {path} is not there."
        )
    logger.info(
        "No LPIPS: put torchvision's %s into %s, or name it in encoding.lpips_path.",
        path.name,
        path.parent,
    )
    return None


def tell(quality: ReconstructionQuality, warn_below: float) -> None:
    """Log the quality, with what helps if the PSNR is low."""
    logger.info(
        "Reconstruction of the validation split: %.1f dB%s.",
        quality.psnr,
        "" if quality.lpips is None else f", LPIPS {quality.lpips:.3f}",
    )
    if quality.psnr < warn_below:
        logger.warning(
            "Samples cannot be sharper than that. Name a trained autoencoder "
            "(encoding.autoencoder), or raise encoding.trained.num_steps and "
            "encoding.trained.latent_channels."
        )


def as_json(quality: ReconstructionQuality) -> dict[str, float | int | bool | None]:
    """Return what JSON can say: an infinite PSNR is ``exact``."""
    exact = quality.psnr == math.inf
    return {
        "psnr_db": None if exact else quality.psnr,
        "exact": exact,
        "lpips": quality.lpips,
        "num_images": quality.num_images,
    }
