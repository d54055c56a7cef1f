"""Order of the comparison."""

from kedro.pipeline import Node, Pipeline

from lct_pipeline.pipelines.comparison.nodes import compare_images, log_comparison


def create_pipeline() -> Pipeline:
    """Return the nodes from two sets of images to their distances."""
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
            ),
            Node(
                log_comparison,
                inputs="comparison",
                outputs=None,
                name="log_comparison",
            ),
        ],
        tags="comparison",
    )
