"""Order of the statistics stage."""

from functools import partial, update_wrapper

from kedro.pipeline import Node, Pipeline

from lct_pipeline.pipelines.statistics.nodes import (
    measure_latents,
    measure_pixels,
    measure_temporal_differences,
    summarise_temporal_differences,
)
from lct_pipeline.reporting.box_plots import (
    draw_box_plot,
    draw_td_box_plot,
    draw_td_spread,
)


def create_pipeline() -> Pipeline:
    """Return the nodes from images, latents and checkpoints to their outlier statistics."""
    draw_pixels = update_wrapper(partial(draw_box_plot, title="Pixels"), draw_box_plot)
    draw_latents = update_wrapper(
        partial(draw_box_plot, title="Latents"), draw_box_plot
    )
    of_data = Pipeline(
        [
            Node(
                measure_pixels,
                inputs=["images", "image_manifest", "params:encoding"],
                outputs="pixel_statistics",
                name="measure_pixels",
            ),
            Node(
                measure_latents,
                inputs=["latents", "latent_manifest", "params:encoding"],
                outputs="latent_statistics",
                name="measure_latents",
            ),
            Node(
                draw_pixels,
                inputs="pixel_statistics",
                outputs="pixel_box_plot",
                name="draw_pixel_box_plot",
            ),
            Node(
                draw_latents,
                inputs="latent_statistics",
                outputs="latent_box_plot",
                name="draw_latent_box_plot",
            ),
        ],
        tags="statistics",
    )
    return of_data + create_td_pipeline()


def create_td_pipeline() -> Pipeline:
    """Return the nodes from checkpoints to the statistics of their temporal differences.

    Together with training they follow it. Alone they take the checkpoints that there are; before
    training there are none, and their tables are empty.
    """
    return Pipeline(
        [
            Node(
                measure_temporal_differences,
                inputs=[
                    "checkpoints",
                    "latents",
                    "latent_manifest",
                    "latent_normalisation",
                    "params:encoding",
                    "params:training",
                    "params:statistics",
                    "params:runtime",
                ],
                outputs="td_statistics",
                name="measure_temporal_differences",
            ),
            Node(
                summarise_temporal_differences,
                inputs="td_statistics",
                outputs="td_summary",
                name="summarise_temporal_differences",
            ),
            Node(
                draw_td_box_plot,
                inputs="td_statistics",
                outputs="td_box_plot",
                name="draw_td_box_plot",
            ),
            Node(
                draw_td_spread,
                inputs="td_summary",
                outputs="td_spread",
                name="draw_td_spread",
            ),
        ],
        tags="statistics",
    )
