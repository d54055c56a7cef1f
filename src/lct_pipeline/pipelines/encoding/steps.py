"""The autoencoder, and the normalisation of its latents."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pandas import DataFrame

from lct_pipeline.core.normalisation import PosteriorMoments
from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.datasets.splits import indices_of
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import ParameterError
from lct_pipeline.models.autoencoder import (
    Autoencoder,
    build_autoencoder,
    fit_autoencoder,
    place,
    side_divisor,
)
from lct_pipeline.models.device import batch_size_for, choose_device
from lct_pipeline.parameters import Runtime
from lct_pipeline.parameters.data import Encoding
from lct_pipeline.parameters.training import Noise
from lct_pipeline.pipelines.encoding.worker import MIRRORED
from lct_pipeline.progress import track_losses


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
