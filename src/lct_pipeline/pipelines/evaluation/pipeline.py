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

SETTINGS = ["params:sampling", "params:runtime"]


def create_pipeline() -> Pipeline:
    """Return the nodes from models to choices, the final numbers and pictures."""
    return Pipeline(
        [
            Node(
                select_sampling_plan,
                inputs=[
                    "best_ema",
                    "combined_model",
                    "checkpoint_index",
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
                    "images",
                    "image_manifest",
                    "given_reference",
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
                    "models",
                    "decoder",
                    "latents",
                    "image_manifest",
                    "reference",
                    "further_references",
                    "params:evaluation",
                    "params:features",
                    *SETTINGS,
                ],
                outputs=["evaluation", "evaluation_table", "distance_by_size"],
                name="evaluate_models",
            ),
            Node(
                find_nearest_neighbours,
                inputs=[
                    "models",
                    "decoder",
                    "images",
                    "image_manifest",
                    "reference",
                    "params:evaluation",
                    *SETTINGS,
                ],
                outputs=["nearest_neighbours", "copying"],
                name="find_nearest_neighbours",
            ),
            Node(
                make_sample_panels,
                inputs=["models", "decoder", "images", "image_manifest", *SETTINGS],
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
