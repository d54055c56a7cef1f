"""Order of the evaluation stage."""

from kedro.pipeline import Node, Pipeline

from lct_pipeline.pipelines.evaluation.choice import choose_average, choose_second_step
from lct_pipeline.pipelines.evaluation.copying import find_nearest_neighbours
from lct_pipeline.pipelines.evaluation.further import measure_further_references
from lct_pipeline.pipelines.evaluation.nodes import (
    evaluate_models,
    log_evaluation,
)
from lct_pipeline.pipelines.evaluation.sample_panels import (
    draw_sample_grid,
    make_sample_panels,
)
from lct_pipeline.reporting.curves import draw_second_step
from lct_pipeline.reporting.size_bias import draw_size_bias

GENERATION = [
    "autoencoder",
    "latent_normalisation",
    "feature_extractor",
    "reference_statistics",
    "params:evaluation",
    "params:sampling",
    "params:runtime",
]
MODELS = ["best_average", "combined_model_if_any", "checkpoint_index", "checkpoints"]


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
                inputs=[*MODELS, *GENERATION],
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
                measure_further_references,
                inputs=[
                    "images",
                    "image_manifest",
                    "previous_further_references",
                    "params:evaluation",
                    "params:features",
                    "params:runtime",
                ],
                outputs="further_references",
                name="measure_further_references",
            ),
            Node(
                evaluate_models,
                inputs=[
                    *MODELS,
                    "sampling_plans",
                    "autoencoder",
                    "latent_normalisation",
                    "latents",
                    "image_manifest",
                    "feature_extractor",
                    "check_extractor",
                    "reference_statistics",
                    "further_references",
                    "given_reference",
                    "params:evaluation",
                    "params:features",
                    "params:sampling",
                    "params:runtime",
                ],
                outputs=["evaluation", "evaluation_table", "distance_by_size"],
                name="evaluate_models",
            ),
            Node(
                draw_size_bias,
                inputs="distance_by_size",
                outputs="size_bias",
                name="draw_size_bias",
            ),
            Node(
                find_nearest_neighbours,
                inputs=[
                    "best_average",
                    "combined_model_if_any",
                    "autoencoder",
                    "latent_normalisation",
                    "images",
                    "image_manifest",
                    "feature_extractor",
                    "params:evaluation",
                    "params:features",
                    "params:sampling",
                    "params:runtime",
                ],
                outputs=["copying", "nearest_neighbours"],
                name="find_nearest_neighbours",
            ),
            Node(
                make_sample_panels,
                inputs=[
                    *MODELS,
                    "sampling_plans",
                    "images",
                    "image_manifest",
                    "autoencoder",
                    "latent_normalisation",
                    "params:sampling",
                    "params:runtime",
                ],
                outputs="sample_panels",
                name="make_sample_panels",
            ),
            Node(
                draw_sample_grid,
                inputs="sample_panels",
                outputs="sample_grid",
                name="draw_sample_grid",
            ),
            Node(
                log_evaluation,
                inputs="evaluation_table",
                outputs=None,
                name="log_evaluation",
            ),
        ],
        tags="evaluation",
    )
