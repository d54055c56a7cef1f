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
from lct_pipeline.parameters.training import Network, Noise


def prepare_autoencoder(
    images: ShardStore,
    image_manifest: DataFrame,
    given_autoencoder: StoredAutoencoder | None,
    previous_autoencoder: StoredAutoencoder | None,
    parameters: Encoding,
    network: Network,
    runtime: Runtime,
) -> Autoencoder:
    """Return the named autoencoder, the one fitted earlier, or one fitted now."""
    from lct_pipeline.pipelines.encoding import quality
    from lct_pipeline.training.task import class_counts

    class_counts(image_manifest, network)  # refuses a conditional one without labels
    if given_autoencoder is not None:
        quality.check_side(images, given_autoencoder.model)
        return given_autoencoder.model
    if previous_autoencoder is not None:
        return previous_autoencoder.model
    indices = quality.indices_of(image_manifest, "train")
    return quality.train_autoencoder(images, indices, parameters, runtime)


def encode_images(
    images: ShardStore,
    autoencoder: StoredAutoencoder,
    previous_latents: ShardStore,
    parameters: Encoding,
    runtime: Runtime,
) -> ShardStream:
    """Encode shard by shard; continue after the shards that are already there."""
    from lct_pipeline.pipelines.encoding.latent_shards import latent_stream

    return latent_stream(images, autoencoder, previous_latents, parameters, runtime)


def normalise_latents(
    latents: ShardStore,
    image_manifest: DataFrame,
    autoencoder: StoredAutoencoder,
    parameters: Encoding,
    noise: Noise,
) -> tuple[DataFrame, TensorFile, Decoder]:
    """Return one row per latent, their normalisation by position, and the way back to images."""
    from lct_pipeline.pipelines.encoding import latent_shards, quality

    manifest = latent_shards.latent_manifest(latents, image_manifest)
    normalisation = latent_shards.measure_normalisation(
        latents, manifest, parameters, noise
    )
    return manifest, normalisation, quality.Decoder(autoencoder, normalisation)


def measure_reconstruction(
    images: ShardStore,
    latents: ShardStore,
    image_manifest: DataFrame,
    decoder: Decoder,
    parameters: Encoding,
    runtime: Runtime,
) -> dict[str, Any]:
    """Measure the validation split through the autoencoder: the floor of all below."""
    from lct_pipeline.pipelines.encoding import quality

    return quality.measure_reconstruction(
        images, latents, image_manifest, decoder, parameters, runtime
    )
