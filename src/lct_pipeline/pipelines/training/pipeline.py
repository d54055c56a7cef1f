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
                    "previous_checkpoints",
                    "decoder",
                    "params:training",
                    "params:sampling",
                    "params:runtime",
                ],
                outputs=[
                    "checkpoints",
                    "training_metrics",
                    "training_state",
                    "stage_samples",
                ],
                name="train_model",
            ),
            Node(
                conclude_training,
                inputs=["training_metrics", "checkpoints"],
                outputs=["training_curves_chart", "training_record"],
                name="conclude_training",
            ),
        ]
    )
