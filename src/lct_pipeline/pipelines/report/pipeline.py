"""The report's node, after whatever a pipeline makes."""

from kedro.pipeline import Node, Pipeline, pipeline

from lct_pipeline.pipelines.report.nodes import write_report

IF_ANY = "_if_any"
RESULTS = [  # in the order of the node's arguments; none of them need be there
    "image_manifest",
    "pixel_statistics",
    "latent_statistics",
    "reconstruction_quality",
    "stage_samples",
    "td_statistics",
    "td_summary",
    "search_history",
    "combination",
    "combination_report",
    "evaluation",
    "distance_by_size",
    "second_step_choice",
    "copying",
    "nearest_neighbours",
    "sample_panels",
]


def create_pipeline() -> Pipeline:
    """Return the node from what there is to the report."""
    return Pipeline(
        [
            Node(
                write_report,
                inputs=[
                    "run_records",
                    "checkpoints",
                    "training_metrics",
                    *(f"{name}{IF_ANY}" for name in RESULTS),
                ],
                outputs="report",
                name="write_report",
            )
        ],
        tags="report",
    )


def report_of(stages: Pipeline) -> Pipeline:
    """Return the node that runs after some stages and reports what they make, beside the rest."""
    made = stages.all_outputs() & set(RESULTS)
    return pipeline(
        create_pipeline(), inputs={f"{name}{IF_ANY}": name for name in made}
    )
