"""Order of the combination stage."""

from kedro.pipeline import Node, Pipeline

from lct_pipeline.pipelines.combination.nodes import (
    conclude_combination,
    measure_landscape,
    score_candidates,
    search_combination,
    select_combination,
)

STAGE = [
    "checkpoint_index",
    "decoder",
    "reference",
    "params:combination",
    "params:sampling",
    "params:runtime",
]


def create_pipeline() -> Pipeline:
    """Return the nodes from cataloged checkpoints to the combined model and its report."""
    return Pipeline(
        [
            Node(
                search_combination,
                inputs=[*STAGE, "previous_search_history"],
                outputs="search_history",
                name="search_combination",
            ),
            Node(
                score_candidates,
                inputs=[
                    *STAGE,
                    "search_history",
                    "ema_selection",
                    "previous_candidate_scores",
                ],
                outputs="candidate_scores",
                name="score_candidates",
            ),
            Node(
                select_combination,
                inputs=[*STAGE, "params:evaluation", "candidate_scores"],
                outputs=["combination_report", "combined_model", "combination"],
                name="select_combination",
            ),
            Node(
                measure_landscape,
                inputs=[*STAGE, "candidate_scores", "combination"],
                outputs="landscape",
                name="measure_landscape",
            ),
            Node(
                conclude_combination,
                inputs=[
                    "search_history",
                    "candidate_scores",
                    "landscape",
                    "combination",
                ],
                outputs=[
                    "search_progress_chart",
                    "coefficients_chart",
                    "quality_along_line_chart",
                    "quality_landscape_chart",
                    "combination_record",
                ],
                name="conclude_combination",
            ),
        ]
    )
