"""What the nodes of the encoding stage do."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from pandas import DataFrame

from lct_pipeline.core.normalisation import PosteriorMoments
from lct_pipeline.datasets.autoencoder import StoredAutoencoder
from lct_pipeline.datasets.decoder import Decoder
from lct_pipeline.datasets.shards import Shard, ShardStore, ShardStream
from lct_pipeline.datasets.splits import indices_of
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import ParameterError
from lct_pipeline.models.autoencoder.coding import (
    Autoencoder,
    decode,
    place,
    side_divisor,
    to_uint8,
)
from lct_pipeline.models.autoencoder.fitting import build_autoencoder, fit_autoencoder
from lct_pipeline.models.batch_sizes import batch_size_for
from lct_pipeline.models.device import choose_device
from lct_pipeline.parameters import Runtime
from lct_pipeline.parameters.data import Encoding
from lct_pipeline.parameters.training import Noise
from lct_pipeline.pipelines.encoding.plan import EncodingPlan, plan_encoding
from lct_pipeline.pipelines.encoding.quality import (
    as_json,
    lpips_if_there,
    reconstruction_quality,
    tell,
)
from lct_pipeline.pipelines.encoding.worker import (
    MIRRORED,
    EncodingTask,
    encode_in_processes,
)
from lct_pipeline.progress import track, track_losses

logger = logging.getLogger(__name__)


def prepare_autoencoder(
    images: ShardStore,
    image_manifest: DataFrame,
    given_autoencoder: StoredAutoencoder | None,
    previous_autoencoder: StoredAutoencoder | None,
    parameters: Encoding,
    runtime: Runtime,
) -> Autoencoder:
    """Return the named autoencoder, the one fitted earlier, or one fitted now.

    Raises:
        ParameterError: The side of the images is not a multiple of what it divides it by.
    """
    if given_autoencoder is not None:
        _check_side(images, given_autoencoder.model)
        return given_autoencoder.model
    if previous_autoencoder is not None:
        logger.info("The autoencoder is already fitted.")
        return previous_autoencoder.model
    return _fit(images, indices_of(image_manifest, "train"), parameters, runtime)


def _check_side(images: ShardStore, autoencoder: Autoencoder) -> None:
    side = images.shards[0].record_shape("images")[-1]
    divisor = side_divisor(autoencoder)
    if side % divisor:
        raise ParameterError(
            f"ingestion.image_size={side}: the autoencoder divides the side by {divisor}; give a "
            "multiple of that."
        )


def _fit(
    images: ShardStore, indices: Any, parameters: Encoding, runtime: Runtime
) -> Autoencoder:
    fitted = parameters.trained
    torch.manual_seed(parameters.seed)
    autoencoder = place(
        build_autoencoder(
            block_channels=fitted.block_channels, latent_channels=fitted.latent_channels
        ),
        choose_device(runtime.device),
    )
    _check_side(images, autoencoder)
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
    device = choose_device(runtime.device)
    plan = plan_encoding(
        images, autoencoder.digest, previous_latents, parameters, device
    )
    _announce(len(images), plan, device)
    task = EncodingTask(images, plan.precision, parameters, runtime.compile)
    shards = encode_in_processes(task, autoencoder.model, plan.numbers, runtime)
    tracked = _tracked(shards, plan)
    return ShardStream(plan.fingerprint, tracked, first_shard=plan.numbers.start)


def _tracked(shards: Generator[Shard], plan: EncodingPlan) -> Iterator[Shard]:
    """Yield shards behind a progress bar; close them, and their processes, at the end."""
    left = len(plan.numbers)
    with closing(shards):
        bar = track(shards, "encode", "shard", silent=left == 0, total=left)
        for number, shard in zip(plan.numbers, bar, strict=True):
            yield replace(shard, fingerprint=plan.of_shards[number])


def _announce(num_images: int, plan: EncodingPlan, device: torch.device) -> None:
    if not plan.numbers:
        logger.info("All %d latents are already encoded.", num_images)
        return
    first = plan.numbers.start
    logger.info(
        "Encoding %d images%s in %s on %s.",
        num_images,
        f", from shard {first} on," if first else "",
        plan.precision,
        device,
    )


def normalise_latents(
    latents: ShardStore,
    image_manifest: DataFrame,
    autoencoder: StoredAutoencoder,
    parameters: Encoding,
    noise: Noise,
) -> tuple[DataFrame, TensorFile, Decoder]:
    """Return one row per latent, their normalisation, and the way back to images."""
    manifest = latent_manifest(latents, image_manifest)
    normalisation = measure_normalisation(latents, manifest, parameters, noise)
    return manifest, normalisation, Decoder(autoencoder, normalisation)


def latent_manifest(latents: ShardStore, image_manifest: DataFrame) -> DataFrame:
    """Return one row per latent, in the order of the shards."""
    usable = image_manifest[image_manifest["index"].notna()]
    columns = ["index", "source", "digest", "label", "split"]
    counts = [shard.num_items for shard in latents.shards]
    shard_of = np.repeat(np.arange(len(counts)), counts)
    return usable[columns].assign(shard=shard_of).reset_index(drop=True)


def measure_normalisation(
    latents: ShardStore,
    latent_manifest: DataFrame,
    parameters: Encoding,
    noise: Noise,
) -> TensorFile:
    """Reduce the training split to mean and standard deviation at every position.

    Mirror images count as images of their own where there are latents of them.
    """
    indices = indices_of(latent_manifest, "train")
    shape = latents.shards[0].record_shape("mean")
    size = batch_size_for(parameters.batch_size, shape)
    moments = PosteriorMoments(shape)
    for ending in ("", MIRRORED) if parameters.horizontal_flips else ("",):
        means, stds = (
            latents.batches(f"{name}{ending}", size, indices)
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
    image_manifest: DataFrame,
    decoder: Decoder,
    parameters: Encoding,
    runtime: Runtime,
) -> dict[str, Any]:
    """Measure the validation split through the autoencoder: the floor of all below.

    Where every pixel comes back, as with ``pixels``, ``exact`` is true and ``psnr_db`` None: it
    is infinite, which JSON cannot say. ``lpips`` is None where it cannot be computed.
    """
    device = choose_device(runtime.device)
    model = place(decoder.autoencoder.model, device)
    shape = images.shards[0].record_shape("images")
    size = batch_size_for(parameters.batch_size, shape, device)
    indices = indices_of(image_manifest, "validation")
    originals = images.batches("images", size, indices)
    means = latents.batches("mean", size, indices)
    pairs = (
        (x.to(device), to_uint8(decode(model, z.to(device))))
        for x, z in zip(originals, means, strict=True)
    )
    quality = reconstruction_quality(
        pairs, lpips_if_there(parameters, shape[-1], device)
    )
    tell(quality, parameters.warn_below_psnr)
    return {**as_json(quality), "split": "validation"}
