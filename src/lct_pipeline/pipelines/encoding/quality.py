"""The autoencoder: fitted on the images, and how well it gives them back, by PSNR and LPIPS."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import torch
from pandas import DataFrame
from torch import Tensor

from lct_pipeline.datasets.decoder import Decoder
from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.datasets.splits import indices_of
from lct_pipeline.errors import DataError, ParameterError
from lct_pipeline.models.autoencoder import (
    Autoencoder,
    build_autoencoder,
    decode,
    fit_autoencoder,
    place,
    side_divisor,
    title_of,
    to_uint8,
)
from lct_pipeline.models.device import batch_size_for, choose_device
from lct_pipeline.models.published_weights import ALEXNET_FILE, published_file
from lct_pipeline.models.reconstruction import (
    MIN_SIDE,
    Distance,
    lpips_distance,
    psnr,
    squared_error,
)
from lct_pipeline.parameters import Runtime
from lct_pipeline.parameters.data import Encoding
from lct_pipeline.progress import track_losses

logger = logging.getLogger(__name__)


def check_side(images: ShardStore, autoencoder: Autoencoder) -> None:
    """Raise ParameterError where an autoencoder cannot divide the side of the images."""
    side = images.shards[0].record_shape("images")[-1]
    divisor = side_divisor(autoencoder)
    if side % divisor:
        raise ParameterError(
            f"ingestion.image_size={side}: the autoencoder divides the side by {divisor}; give a "
            "multiple of that."
        )


def train_autoencoder(
    images: ShardStore, indices: Any, parameters: Encoding, runtime: Runtime
) -> Autoencoder:
    """Return an autoencoder that was fitted on the images at these places.

    Raises:
        ParameterError: The side of the images is not a multiple of what it divides it by.
    """
    trained = parameters.trained.model_dump()
    torch.manual_seed(parameters.seed)
    autoencoder = place(
        build_autoencoder(
            trained.pop("kind"),
            block_channels=trained.pop("block_channels"),
            latent_channels=trained.pop("latent_channels"),
        ),
        choose_device(runtime.device),
    )
    check_side(images, autoencoder)
    losses = fit_autoencoder(
        autoencoder,
        lambda batch: images.gather("images", indices[batch.numpy()]),
        len(indices),
        seed=parameters.seed,
        **trained,
    )
    track_losses(losses, "fit autoencoder", parameters.trained.num_steps)
    return autoencoder


def measure_reconstruction(
    images: ShardStore,
    latents: ShardStore,
    image_manifest: DataFrame,
    decoder: Decoder,
    parameters: Encoding,
    runtime: Runtime,
) -> dict[str, Any]:
    """Measure the validation split through the autoencoder, and say what helps if it is low."""
    device = choose_device(runtime.device)
    model = place(decoder.autoencoder.model, device)
    shape = images.shards[0].record_shape("images")
    size = batch_size_for(parameters.batch_size, shape, device)
    indices = indices_of(image_manifest, "validation")
    originals = images.batches("images", size, indices)
    means = latents.batches("mean", size, indices)
    pairs = (
        (x.to(device), to_uint8(decode(model, z.to(device)), title_of(model)))
        for x, z in zip(originals, means, strict=True)
    )
    distance = lpips_if_there(parameters, shape[-1], device)
    quality = reconstruction_quality(pairs, distance)
    logger.info("Reconstruction of the validation split: %s.", quality)
    if not quality["exact"] and quality["psnr_db"] < parameters.warn_below_psnr:
        logger.warning(
            "Samples cannot be sharper than that. Name a trained autoencoder "
            "(encoding.autoencoder), or raise encoding.trained.num_steps and "
            "encoding.trained.latent_channels."
        )
    return {**quality, "split": "validation"}


def reconstruction_quality(
    pairs: Iterable[tuple[Tensor, Tensor]], distance: Distance | None
) -> dict[str, Any]:
    """Reduce pairs of uint8 batches, images and reconstructions ``(B, 3, H, W)``.

    Args:
        pairs: One batch is in memory at a time.
        distance: LPIPS of the images of a batch; None leaves it out.

    Returns:
        PSNR over all values together in dB, mean LPIPS, and of how many images. Where every pixel
        comes back, as with ``pixels``, ``exact`` is true and ``psnr_db`` None: it is infinite,
        which JSON cannot say.
    """
    error, total, num_values, num_images = 0, 0.0, 0, 0
    for images, reconstructions in pairs:
        error += squared_error(images, reconstructions)
        num_values += images.numel()
        num_images += len(images)
        if distance is not None:
            total += distance(images, reconstructions).sum().item()
    return {
        "psnr_db": psnr(error, num_values) if error else None,
        "exact": error == 0,
        "lpips": None if distance is None else total / num_images,
        "num_images": num_images,
    }


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
    path = published_file(parameters.lpips_path, ALEXNET_FILE)
    if path.exists():
        return lpips_distance(path, device)
    if parameters.lpips_path:
        raise DataError(
            f"encoding.lpips_path={parameters.lpips_path!r}: {path} is not there."
        )
    logger.info(
        "No LPIPS: put torchvision's %s into %s, or name it in encoding.lpips_path.",
        ALEXNET_FILE,
        path.parent,
    )
    return None
