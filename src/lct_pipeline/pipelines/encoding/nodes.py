"""Nodes of the encoding stage."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from lct_pipeline.datasets.autoencoder import StoredAutoencoder
from lct_pipeline.datasets.shards import Shard, ShardStore, ShardStream
from lct_pipeline.datasets.tensor_file import TensorFile
from lct_pipeline.lazy import pd
from lct_pipeline.parameters import Encoding, Runtime
from lct_pipeline.pipelines.splits import indices_of
from lct_pipeline.reporting.progress import track, track_losses
from lct_pipeline.training_parameters import Noise

if TYPE_CHECKING:
    from torch import Tensor

    from lct_pipeline.models.autoencoder import Autoencoder

logger = logging.getLogger(__name__)

MIRRORED = "_flipped"  # ends the names of the mirror images' tensors


def prepare_autoencoder(
    images: ShardStore,
    image_manifest: pd.DataFrame,
    given_autoencoder: StoredAutoencoder | None,
    previous_autoencoder: StoredAutoencoder | None,
    parameters: Encoding,
    runtime: Runtime,
) -> Any:
    """Return the named autoencoder, the one fitted earlier, or one fitted now."""
    if given_autoencoder is not None:
        return given_autoencoder.model
    if previous_autoencoder is not None:
        logger.info("The autoencoder is already fitted.")
        return previous_autoencoder.model
    return _fit(images, indices_of(image_manifest, "train"), parameters, runtime)


def _fit(
    images: ShardStore, indices: Any, parameters: Encoding, runtime: Runtime
) -> Autoencoder:
    import torch

    from lct_pipeline.models.autoencoder import (
        build_autoencoder,
        fit_autoencoder,
        place,
    )
    from lct_pipeline.models.device import choose_device

    fitted = parameters.fitted
    torch.manual_seed(parameters.seed)
    autoencoder = place(
        build_autoencoder(
            block_channels=fitted.block_channels, latent_channels=fitted.latent_channels
        ),
        choose_device(runtime.device),
    )
    losses = fit_autoencoder(
        autoencoder,
        lambda batch: images.gather("images", indices[batch.numpy()]),
        len(indices),
        num_steps=fitted.num_steps,
        batch_size=fitted.batch_size,
        learning_rate=fitted.learning_rate,
        kl_weight=fitted.kl_weight,
        seed=parameters.seed,
    )
    track_losses(losses, "fit autoencoder", fitted.num_steps)
    return autoencoder


def encode_images(
    images: ShardStore,
    autoencoder: StoredAutoencoder,
    previous_latents: ShardStore,
    parameters: Encoding,
    runtime: Runtime,
) -> ShardStream:
    """Encode shard by shard; continue after the shards that are already there."""
    ending = MIRRORED if parameters.horizontal_flips else ""
    fingerprint = f"{images.fingerprint}{ending}-{autoencoder.digest}"
    num_shards = len(images.shards)
    finished = min(previous_latents.num_finished_shards(fingerprint), num_shards)
    if finished == num_shards:
        logger.info("All %d latents are already encoded.", len(images))
    shards = _encoded_shards(images, autoencoder, finished, parameters, runtime)
    return ShardStream(fingerprint, shards, first_shard=finished)


def _encoded_shards(
    images: ShardStore,
    autoencoder: StoredAutoencoder,
    first: int,
    parameters: Encoding,
    runtime: Runtime,
) -> Iterator[Shard]:
    import torch

    from lct_pipeline.models.autoencoder import place
    from lct_pipeline.models.device import choose_device

    model = place(autoencoder.model, choose_device(runtime.device))
    for shard in track(images.shards[first:], "encode", "shard"):
        batches = torch.from_numpy(shard.arrays["images"]).split(parameters.batch_size)
        tensors = _posteriors(model, batches)
        if parameters.horizontal_flips:
            mirrored = _posteriors(model, (batch.flip(-1) for batch in batches))
            tensors |= {f"{name}{MIRRORED}": z for name, z in mirrored.items()}
        yield Shard(tensors)


def _posteriors(model: Autoencoder, batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """Return ``mean`` and ``std`` of the posteriors of uint8 images, all batches together."""
    import torch

    from lct_pipeline.models.autoencoder import encode

    encoded = [encode(model, batch) for batch in batches]
    means, stds = (torch.cat(parts) for parts in zip(*encoded, strict=True))
    return {"mean": means, "std": stds}


def build_latent_manifest(
    latents: ShardStore, image_manifest: pd.DataFrame
) -> pd.DataFrame:
    """Return one row per latent, in the order of the shards."""
    usable = image_manifest[image_manifest["index"].notna()]
    ends = [shard.num_items for shard in latents.shards]
    shard_of = [number for number, count in enumerate(ends) for _ in range(count)]
    columns = ["index", "source", "digest", "label", "split"]
    return usable[columns].assign(shard=shard_of).reset_index(drop=True)


def measure_normalisation(
    latents: ShardStore,
    latent_manifest: pd.DataFrame,
    parameters: Encoding,
    noise: Noise,
) -> TensorFile:
    """Reduce the training split to mean and standard deviation at every position.

    Mirror images count as images of their own where there are latents of them.
    """
    from lct_pipeline.core.normalisation import PosteriorMoments

    indices = indices_of(latent_manifest, "train")
    moments = PosteriorMoments(latents.shards[0].arrays["mean"].shape[1:])
    for ending in ("", MIRRORED) if parameters.horizontal_flips else ("",):
        means, stds = (
            latents.batches(f"{name}{ending}", parameters.batch_size, indices)
            for name in ("mean", "std")
        )
        for batch in zip(means, stds, strict=True):
            moments.update(*batch)
    normalisation = moments.normalisation(noise.sigma_data)
    return TensorFile(
        {"mean": normalisation.mean, "std": normalisation.std},
        {"sigma_data": noise.sigma_data, "num_images": moments.count},
    )


def measure_reconstruction(
    images: ShardStore,
    latents: ShardStore,
    image_manifest: pd.DataFrame,
    autoencoder: StoredAutoencoder,
    parameters: Encoding,
    runtime: Runtime,
) -> dict[str, Any]:
    """Return the PSNR of the validation split through the autoencoder: the floor of all below.

    Where every pixel comes back, as with ``pixels``, ``exact`` is true and ``psnr_db`` None: it
    is infinite, which JSON cannot say.
    """
    import torch

    from lct_pipeline.models.autoencoder import decode, place, psnr, to_uint8
    from lct_pipeline.models.device import choose_device

    device = choose_device(runtime.device)
    model = place(autoencoder.model, device)
    indices = indices_of(image_manifest, "validation")
    decoded: list[Tensor] = [
        to_uint8(decode(model, z.to(device))).cpu()
        for z in latents.batches("mean", parameters.batch_size, indices)
    ]
    originals = list(images.batches("images", parameters.batch_size, indices))
    quality = psnr(torch.cat(originals), torch.cat(decoded))
    _tell(quality, parameters.warn_below_psnr)
    exact = quality == math.inf
    return {
        "psnr_db": None if exact else quality,
        "exact": exact,
        "split": "validation",
        "num_images": len(indices),
    }


def _tell(quality: float, warn_below: float) -> None:
    """Log a PSNR, with what helps if it is low."""
    logger.info("Reconstruction of the validation split: %.1f dB.", quality)
    if quality < warn_below:
        logger.warning(
            "Samples cannot be sharper than that. Name a trained autoencoder "
            "(encoding.autoencoder), or raise encoding.fitted.num_steps and "
            "encoding.fitted.latent_channels."
        )
