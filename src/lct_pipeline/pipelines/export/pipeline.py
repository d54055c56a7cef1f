"""Order of the export stage."""

from kedro.pipeline import Node, Pipeline

from lct_pipeline.pipelines.export.nodes import export_model


def create_pipeline() -> Pipeline:
    """Return the node from a run's models to a folder for diffusers."""
    return Pipeline(
        [
            Node(
                export_model,
                inputs=[
                    "checkpoint_index",
                    "checkpoints",
                    "best_average_if_any",
                    "combined_model_if_any",
                    "combination_if_any",
                    "sampling_plans_if_any",
                    "evaluation_if_any",
                    "autoencoder",
                    "latent_normalisation",
                    "run_records",
                    "params:export",
                    "params:sampling",
                ],
                outputs="exported_model",
                name="export_model",
            )
        ],
        tags="export",
    )
