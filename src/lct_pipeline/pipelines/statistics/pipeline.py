"""Order of the statistics stage."""

from functools import partial, update_wrapper

from kedro.pipeline import Node, Pipeline

from lct_pipeline.pipelines.statistics.nodes import measure_latents, measure_pixels
from lct_pipeline.reporting.box_plots import draw_box_plot


def create_pipeline() -> Pipeline:
    """Return the nodes from images and latents to their outlier statistics."""
    draw_pixels = update_wrapper(partial(draw_box_plot, title="Pixels"), draw_box_plot)
    draw_latents = update_wrapper(
        partial(draw_box_plot, title="Latents"), draw_box_plot
    )
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
        ]
    )
