"""Order of the evaluation stage."""

from kedro.pipeline import Node, Pipeline

from lct_pipeline.pipelines.evaluation.nodes import (
    conclude_evaluation,
    evaluate_models,
    find_nearest_neighbours,
    make_sample_panels,
    measure_further_references,
    select_sampling_plan,
)

TRAINED = ["best_ema", "combined_model", "checkpoint_index"]
MODELS = ["models", "decoder"]
IMAGES = ["images", "image_manifest"]
FEATURES = ["params:evaluation", "params:features"]
SETTINGS = ["params:sampling", "params:runtime"]


def create_pipeline() -> Pipeline:
    """Return the nodes from models to selections, the final values and pictures."""
    return Pipeline(
        [
            Node(
                select_sampling_plan,
                inputs=[
                    *TRAINED,
                    "decoder",
                    "reference",
                    "params:evaluation",
                    *SETTINGS,
                ],
                outputs=["two_step_selection", "models"],
                name="select_sampling_plan",
            ),
            Node(
                measure_further_references,
                inputs=[
                    *IMAGES,
                    "given_reference",
                    "previous_further_references",
                    *FEATURES,
                    "params:runtime",
                ],
                outputs="further_references",
                name="measure_further_references",
            ),
            Node(
                evaluate_models,
                inputs=[
                    *MODELS,
                    "latents",
                    "image_manifest",
                    "reference",
                    "further_references",
                    *FEATURES,
                    *SETTINGS,
                ],
                outputs=["evaluation", "evaluation_table", "distance_by_size"],
                name="evaluate_models",
            ),
            Node(
                find_nearest_neighbours,
                inputs=[*MODELS, *IMAGES, "reference", "params:evaluation", *SETTINGS],
                outputs=["nearest_neighbours", "copying"],
                name="find_nearest_neighbours",
            ),
            Node(
                make_sample_panels,
                inputs=[*MODELS, *IMAGES, *SETTINGS],
                outputs=["sample_grid", "sample_panels"],
                name="make_sample_panels",
            ),
            Node(
                conclude_evaluation,
                inputs=[
                    "evaluation_table",
                    "two_step_selection",
                    "distance_by_size",
                    "sample_panels",
                    "copying",
                ],
                outputs=[
                    "two_step_sweep_chart",
                    "size_bias_chart",
                    "evaluation_record",
                ],
                name="conclude_evaluation",
            ),
        ]
    )
