"""Order of the references."""

from kedro.pipeline import Node, Pipeline

from lct_pipeline.pipelines.references.nodes import prepare_reference


def create_pipeline() -> Pipeline:
    """Return the node from real images to what models are compared with."""
    return Pipeline(
        [
            Node(
                prepare_reference,
                inputs=[
                    "images",
                    "image_manifest",
                    "previous_reference",
                    "params:features",
                    "params:runtime",
                ],
                outputs="reference",
                name="prepare_reference",
            )
        ]
    )
