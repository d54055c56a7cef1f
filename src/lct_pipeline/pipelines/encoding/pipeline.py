"""Order of the encoding stage."""

from kedro.pipeline import Node, Pipeline

from lct_pipeline.pipelines.encoding.nodes import (
    encode_images,
    measure_reconstruction,
    normalise_latents,
    prepare_autoencoder,
)

PARAMETERS = ["params:encoding", "params:runtime"]


def create_pipeline() -> Pipeline:
    """Return the nodes from images to normalised latents."""
    return Pipeline(
        [
            Node(
                prepare_autoencoder,
                inputs=[
                    "images",
                    "image_manifest",
                    "given_autoencoder",
                    "previous_autoencoder",
                    "params:encoding",
                    "params:training.network",
                    "params:runtime",
                ],
                outputs="autoencoder",
                name="prepare_autoencoder",
            ),
            Node(
                encode_images,
                inputs=["images", "autoencoder", "previous_latents", *PARAMETERS],
                outputs="latents",
                name="encode_images",
            ),
            Node(
                normalise_latents,
                inputs=[
                    "latents",
                    "image_manifest",
                    "autoencoder",
                    "params:encoding",
                    "params:training.noise",
                ],
                outputs=["latent_manifest", "latent_normalisation", "decoder"],
                name="normalise_latents",
            ),
            Node(
                measure_reconstruction,
                inputs=["images", "latents", "image_manifest", "decoder", *PARAMETERS],
                outputs="reconstruction_quality",
                name="measure_reconstruction",
            ),
        ]
    )
