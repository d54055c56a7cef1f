"""Nodes of the encoding stage."""

from __future__ import annotations

from typing import Any

from lct_pipeline.lazy_types import (
    Autoencoder,
    DataFrame,
    Decoder,
    ShardStore,
    ShardStream,
    StoredAutoencoder,
    TensorFile,
)
from lct_pipeline.parameters import Runtime
from lct_pipeline.parameters.data import Encoding
from lct_pipeline.parameters.training import Noise


def prepare_autoencoder(
    images: ShardStore,
    image_manifest: DataFrame,
    given_autoencoder: StoredAutoencoder | None,
    previous_autoencoder: StoredAutoencoder | None,
    parameters: Encoding,
    runtime: Runtime,
) -> Autoencoder:
    """Return the named autoencoder, the one fitted earlier, or one fitted now."""
    from lct_pipeline.pipelines.encoding import steps

    return steps.prepare_autoencoder(
        images,
        image_manifest,
        given_autoencoder,
        previous_autoencoder,
        parameters,
        runtime,
    )


def encode_images(
    images: ShardStore,
    autoencoder: StoredAutoencoder,
    previous_latents: ShardStore,
    parameters: Encoding,
    runtime: Runtime,
) -> ShardStream:
    """Encode shard by shard; continue after the shards that are already there."""
    from lct_pipeline.pipelines.encoding import steps

    return steps.encode_images(
        images, autoencoder, previous_latents, parameters, runtime
    )


def normalise_latents(
    latents: ShardStore,
    image_manifest: DataFrame,
    autoencoder: StoredAutoencoder,
    parameters: Encoding,
    noise: Noise,
) -> tuple[DataFrame, TensorFile, Decoder]:
    """Return one row per latent, their mean and spread by position, and the way back to images."""
    from lct_pipeline.pipelines.encoding import steps

    return steps.normalise_latents(
        latents, image_manifest, autoencoder, parameters, noise
    )


def measure_reconstruction(
    images: ShardStore,
    latents: ShardStore,
    image_manifest: DataFrame,
    decoder: Decoder,
    parameters: Encoding,
    runtime: Runtime,
) -> dict[str, Any]:
    """Measure the validation split through the autoencoder: the floor of all below."""
    from lct_pipeline.pipelines.encoding import steps

    return steps.measure_reconstruction(
        images, latents, image_manifest, decoder, parameters, runtime
    )
