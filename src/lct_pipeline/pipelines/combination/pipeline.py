"""Order of the combination stage."""

from kedro.pipeline import Node, Pipeline

from lct_pipeline.pipelines.combination.nodes import (
    conclude_combination,
    measure_landscape,
    score_candidates,
    search_combination,
    select_combination,
)

MODELS = ["checkpoint_index", "decoder", "reference"]
SETTINGS = ["params:sampling", "params:runtime"]


def create_pipeline() -> Pipeline:
    """Return the nodes from cataloged checkpoints to the combined model and its report."""
    return Pipeline(
        [
            Node(
                search_combination,
                inputs=[
                    *MODELS,
                    "previous_search_history",
                    "params:combination",
                    *SETTINGS,
                ],
                outputs="search_history",
                name="search_combination",
            ),
            Node(
                score_candidates,
                inputs=[
                    "search_history",
                    "ema_selection",
                    "previous_candidate_scores",
                    *MODELS,
                    "params:combination",
                    *SETTINGS,
                ],
                outputs="candidate_scores",
                name="score_candidates",
            ),
            Node(
                select_combination,
                inputs=[
                    "candidate_scores",
                    *MODELS,
                    "params:combination",
                    "params:evaluation",
                    *SETTINGS,
                ],
                outputs=["combination_report", "combined_model", "combination"],
                name="select_combination",
            ),
            Node(
                measure_landscape,
                inputs=[
                    "candidate_scores",
                    "combination",
                    *MODELS,
                    "params:combination",
                    *SETTINGS,
                ],
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
