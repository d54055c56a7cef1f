"""Order of the training stage."""

from kedro.pipeline import Node, Pipeline

from lct_pipeline.pipelines.training.nodes import conclude_training, train_model


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
                    "init_from_checkpoints",
                    "previous_training_state",
                    "params:training",
                    "params:runtime",
                ],
                outputs=["checkpoints", "training_metrics", "training_state"],
                name="train_model",
            ),
            Node(
                conclude_training,
                inputs=[
                    "training_metrics",
                    "checkpoints",
                    "decoder",
                    "params:sampling",
                    "params:runtime",
                ],
                outputs=["training_curves_chart", "stage_samples", "training_record"],
                name="conclude_training",
            ),
        ]
    )
