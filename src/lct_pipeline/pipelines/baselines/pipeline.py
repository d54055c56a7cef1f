"""Order of the baselines."""

from kedro.pipeline import Node, Pipeline

from lct_pipeline.pipelines.baselines.nodes import select_best_ema


def create_pipeline() -> Pipeline:
    """Return the node from checkpoints to the best EMA, which combinations have to beat."""
    return Pipeline(
        [
            Node(
                select_best_ema,
                inputs=[
                    "checkpoint_index",
                    "decoder",
                    "reference",
                    "params:combination",
                    "params:sampling",
                    "params:runtime",
                    "params:evaluation",
                    "previous_ema_selection",
                ],
                outputs=["ema_selection", "best_ema"],
                name="select_best_ema",
            )
        ]
    )
