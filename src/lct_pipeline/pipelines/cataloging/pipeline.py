"""Order of the cataloging stage."""

from kedro.pipeline import Node, Pipeline

from lct_pipeline.pipelines.cataloging.nodes import (
    import_checkpoints,
    index_checkpoints,
)


def create_pipeline() -> Pipeline:
    """Return the node from checkpoints to their index."""
    return Pipeline(
        [
            Node(
                index_checkpoints,
                inputs=["checkpoints", "params:features"],
                outputs="checkpoint_index",
                name="index_checkpoints",
            )
        ]
    )


def create_import_pipeline() -> Pipeline:
    """Return the nodes from checkpoints of another trainer to ours and their index."""
    copy = Node(
        import_checkpoints,
        inputs=["external_checkpoints", "previous_checkpoints"],
        outputs="checkpoints",
        name="import_checkpoints",
    )
    return Pipeline([copy]) + create_pipeline()
