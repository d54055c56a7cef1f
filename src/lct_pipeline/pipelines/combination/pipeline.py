"""Order of the combination stage."""

from kedro.pipeline import Node, Pipeline

from lct_pipeline.pipelines.combination.choosing import score_candidates
from lct_pipeline.pipelines.combination.landscape import measure_landscape
from lct_pipeline.pipelines.combination.searching import search_combination
from lct_pipeline.pipelines.combination.verifying import verify_combination
from lct_pipeline.reporting.landscapes import draw_landscape, draw_line
from lct_pipeline.reporting.searches import draw_coefficients, draw_search_progress

CHECKPOINTS = [
    "checkpoint_index",
    "checkpoints",
    "autoencoder_if_any",
    "latent_normalisation_if_any",
    "feature_extractor",
]
SETTINGS = ["params:sampling", "params:runtime"]


def create_pipeline() -> Pipeline:
    """Return the nodes from cataloged checkpoints to the combined model and its report."""
    return Pipeline(
        [
            Node(
                search_combination,
                inputs=[
                    *CHECKPOINTS,
                    "reference_statistics",
                    "previous_search_state",
                    "params:combination",
                    *SETTINGS,
                ],
                outputs=["search_history", "search_state"],
                name="search_combination",
            ),
            Node(
                score_candidates,
                inputs=[
                    "search_history",
                    "previous_candidate_scores",
                    *CHECKPOINTS,
                    "reference_statistics",
                    "params:combination",
                    "params:evaluation",
                    *SETTINGS,
                ],
                outputs="candidate_scores",
                name="score_candidates",
            ),
            Node(
                verify_combination,
                inputs=[
                    "candidate_scores",
                    *CHECKPOINTS,
                    "check_extractor",
                    "reference_statistics",
                    "params:combination",
                    "params:evaluation",
                    *SETTINGS,
                ],
                outputs=["combination_report", "combination", "combined_model"],
                name="verify_combination",
            ),
            Node(
                measure_landscape,
                inputs=[
                    "candidate_scores",
                    "combination",
                    *CHECKPOINTS,
                    "reference_statistics",
                    "params:combination",
                    *SETTINGS,
                ],
                outputs="landscape",
                name="measure_landscape",
            ),
            Node(
                draw_search_progress,
                inputs="search_history",
                outputs="search_progress",
                name="draw_search_progress",
            ),
            Node(
                draw_coefficients,
                inputs=["combination", "candidate_scores"],
                outputs="coefficients",
                name="draw_coefficients",
            ),
            Node(
                draw_line,
                inputs=["landscape", "combination"],
                outputs="quality_along_line",
                name="draw_line",
            ),
            Node(
                draw_landscape,
                inputs=["landscape", "combination"],
                outputs="quality_landscape",
                name="draw_landscape",
            ),
        ],
        tags="combination",
    )
