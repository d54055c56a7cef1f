"""Order of the references."""

from kedro.pipeline import Node, Pipeline

from lct_pipeline.pipelines.references.extractors import (
    prepare_check_extractor,
    prepare_extractor,
)
from lct_pipeline.pipelines.references.nodes import measure_references


def create_pipeline() -> Pipeline:
    """Return the nodes from real images to the features that models are compared with."""
    return Pipeline(
        [
            Node(
                prepare_extractor,
                inputs=[
                    "images",
                    "image_manifest",
                    "previous_extractor",
                    "params:features",
                    "params:runtime",
                ],
                outputs="feature_extractor",
                name="prepare_extractor",
            ),
            Node(
                prepare_check_extractor,
                inputs=[
                    "images",
                    "image_manifest",
                    "previous_check_extractor",
                    "params:features",
                    "params:runtime",
                ],
                outputs="check_extractor",
                name="prepare_check_extractor",
            ),
            Node(
                measure_references,
                inputs=[
                    "images",
                    "image_manifest",
                    "feature_extractor",
                    "check_extractor",
                    "previous_reference_statistics",
                    "params:features",
                    "params:runtime",
                ],
                outputs="reference_statistics",
                name="measure_references",
            ),
        ],
        tags="references",
    )
