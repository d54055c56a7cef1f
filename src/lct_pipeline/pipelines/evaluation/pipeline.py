"""Order of the evaluation stage."""

from kedro.pipeline import Node, Pipeline

from lct_pipeline.pipelines.evaluation.choice import choose_average, choose_second_step
from lct_pipeline.pipelines.evaluation.nodes import (
    draw_sample_grid,
    evaluate_models,
    log_evaluation,
)
from lct_pipeline.reporting.curves import draw_second_step

GENERATION = [
    "autoencoder",
    "latent_normalisation",
    "feature_extractor",
    "reference_statistics",
    "params:evaluation",
    "params:sampling",
    "params:runtime",
]


def create_pipeline() -> Pipeline:
    """Return the nodes from models to choices, the final numbers and the sample grid."""
    return Pipeline(
        [
            Node(
                choose_average,
                inputs=["checkpoint_index", "checkpoints", *GENERATION],
                outputs=["average_choice", "best_average"],
                name="choose_average",
            ),
            Node(
                choose_second_step,
                inputs=["best_average", "combined_model_if_any", *GENERATION],
                outputs=["second_step_choice", "sampling_plans"],
                name="choose_second_step",
            ),
            Node(
                draw_second_step,
                inputs="second_step_choice",
                outputs="second_step_sweep",
                name="draw_second_step",
            ),
            Node(
                evaluate_models,
                inputs=[
                    "best_average",
                    "combined_model_if_any",
                    "checkpoint_index",
                    "checkpoints",
                    "sampling_plans",
                    *GENERATION,
                ],
                outputs=["evaluation", "evaluation_table"],
                name="evaluate_models",
            ),
            Node(
                draw_sample_grid,
                inputs=[
                    "best_average",
                    "combined_model_if_any",
                    "checkpoint_index",
                    "checkpoints",
                    "sampling_plans",
                    "images",
                    "image_manifest",
                    "autoencoder",
                    "latent_normalisation",
                    "params:sampling",
                    "params:runtime",
                ],
                outputs="sample_grid",
                name="draw_sample_grid",
            ),
            Node(
                log_evaluation,
                inputs="evaluation_table",
                outputs=None,
                name="log_evaluation",
            ),
        ]
    )
