"""Order of the statistics stage."""

from kedro.pipeline import Node, Pipeline

from lct_pipeline.pipelines.statistics.nodes import (
    conclude_statistics,
    measure_latents,
    measure_pixels,
    measure_temporal_differences,
)

LATENTS = ["latents", "latent_manifest"]
TABLES = ["pixel_statistics", "latent_statistics", "td_statistics"]


def create_pipeline() -> Pipeline:
    """Return the nodes from images, latents and checkpoints to their outlier statistics.

    Together with training they follow it. Alone they take the checkpoints that there are; before
    training there are none, and the tables of temporal differences are empty.
    """
    return Pipeline(
        [
            Node(
                measure_pixels,
                inputs=["images", "image_manifest", "params:encoding"],
                outputs="pixel_statistics",
                name="measure_pixels",
            ),
            Node(
                measure_latents,
                inputs=[*LATENTS, "params:encoding"],
                outputs="latent_statistics",
                name="measure_latents",
            ),
            Node(
                measure_temporal_differences,
                inputs=[
                    "checkpoints",
                    *LATENTS,
                    "latent_normalisation",
                    "params:encoding",
                    "params:training",
                    "params:statistics",
                    "params:runtime",
                ],
                outputs=["td_statistics", "td_summary"],
                name="measure_temporal_differences",
            ),
            Node(
                conclude_statistics,
                inputs=[*TABLES, "td_summary"],
                outputs=[
                    "pixel_box_plot_chart",
                    "latent_box_plot_chart",
                    "td_box_plot_chart",
                    "td_std_chart",
                    "statistics_record",
                ],
                name="conclude_statistics",
            ),
        ]
    )
