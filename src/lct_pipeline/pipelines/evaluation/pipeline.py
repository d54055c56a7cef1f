"""Order of the evaluation stage."""

from kedro.pipeline import Node, Pipeline

from lct_pipeline.pipelines.evaluation.nodes import (
    draw_sample_grid,
    evaluate_models,
    log_evaluation,
)


def create_pipeline() -> Pipeline:
    """Return the nodes from models to the final numbers and the sample grid."""
    return Pipeline(
        [
            Node(
                evaluate_models,
                inputs=[
                    "combined_model",
                    "control_models",
                    "autoencoder",
                    "latent_normalisation",
                    "feature_extractor",
                    "reference_statistics",
                    "params:evaluation",
                    "params:sampling",
                    "params:runtime",
                ],
                outputs=["evaluation", "evaluation_table"],
                name="evaluate_models",
            ),
            Node(
                draw_sample_grid,
                inputs=[
                    "combined_model",
                    "control_models",
                    "images",
                    "image_manifest",
                    "autoencoder",
                    "latent_normalisation",
                    "params:sampling",
                    "params:runtime",
                ],
                outputs="sample_grid",
                name="draw_sample_grid",
            ),
            Node(
                log_evaluation,
                inputs="evaluation_table",
                outputs=None,
                name="log_evaluation",
            ),
        ]
    )
