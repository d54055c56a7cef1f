"""Order of the combination stage."""

from kedro.pipeline import Node, Pipeline

from lct_pipeline.pipelines.combination.nodes import choose_models, search_combination
from lct_pipeline.reporting.curves import draw_coefficients, draw_search_progress


def create_pipeline() -> Pipeline:
    """Return the nodes from cataloged checkpoints to the combined model."""
    return Pipeline(
        [
            Node(
                search_combination,
                inputs=[
                    "checkpoint_index",
                    "checkpoints",
                    "autoencoder",
                    "latent_normalisation",
                    "feature_extractor",
                    "reference_statistics",
                    "previous_search_state",
                    "params:combination",
                    "params:sampling",
                    "params:runtime",
                ],
                outputs=["search_history", "search_state"],
                name="search_combination",
            ),
            Node(
                choose_models,
                inputs=[
                    "search_history",
                    "checkpoint_index",
                    "checkpoints",
                    "params:combination",
                ],
                outputs=["combination", "combined_model"],
                name="choose_models",
            ),
            Node(
                draw_search_progress,
                inputs="search_history",
                outputs="search_progress",
                name="draw_search_progress",
            ),
            Node(
                draw_coefficients,
                inputs="combination",
                outputs="coefficients",
                name="draw_coefficients",
            ),
        ]
    )
