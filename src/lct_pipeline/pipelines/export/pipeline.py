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
                    "run_folder",
                    "checkpoint_index",
                    "decoder",
                    "params:export",
                    "params:sampling",
                ],
                outputs="exported_model",
                name="export_model",
            )
        ]
    )
