"""Order of the comparison."""

from kedro.pipeline import Node, Pipeline

from lct_pipeline.pipelines.comparison.nodes import compare_images


def create_pipeline() -> Pipeline:
    """Return the node from two sets of images to their distances."""
    return Pipeline(
        [
            Node(
                compare_images,
                inputs=[
                    "compared_images",
                    "reference_images",
                    "compared_statistics",
                    "params:comparison",
                    "params:ingestion",
                    "params:features",
                    "params:runtime",
                ],
                outputs="comparison",
                name="compare_images",
            )
        ]
    )
