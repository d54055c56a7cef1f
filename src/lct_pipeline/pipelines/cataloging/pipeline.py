"""Order of the cataloging stage."""

from kedro.pipeline import Node, Pipeline

from lct_pipeline.pipelines.cataloging.nodes import index_checkpoints


def create_pipeline() -> Pipeline:
    """Return the node from checkpoints to their index."""
    return Pipeline(
        [
            Node(
                index_checkpoints,
                inputs="checkpoints",
                outputs="checkpoint_index",
                name="index_checkpoints",
            )
        ]
    )
