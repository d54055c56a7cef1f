"""Order of the training stage."""

from kedro.pipeline import Node, Pipeline

from lct_pipeline.pipelines.training.nodes import draw_stage_samples, train_model
from lct_pipeline.reporting.curves import draw_training_curves


def create_pipeline() -> Pipeline:
    """Return the nodes from latents to checkpoints, curves and samples."""
    return Pipeline(
        [
            Node(
                train_model,
                inputs=[
                    "latents",
                    "latent_manifest",
                    "latent_normalisation",
                    "first_stage_checkpoints",
                    "previous_training_state",
                    "params:training",
                    "params:runtime",
                ],
                outputs=["checkpoints", "training_metrics", "training_state"],
                name="train_model",
            ),
            Node(
                draw_training_curves,
                inputs="training_metrics",
                outputs="training_curves",
                name="draw_training_curves",
            ),
            Node(
                draw_stage_samples,
                inputs=[
                    "checkpoints",
                    "autoencoder",
                    "latent_normalisation",
                    "params:sampling",
                    "params:runtime",
                ],
                outputs="stage_samples",
                name="draw_stage_samples",
            ),
        ],
        tags="training",
    )
