"""Order of the report: after all stages that run before it."""

from kedro.pipeline import Node, Pipeline

from lct_pipeline.pipelines.report.nodes import write_report


def create_pipeline() -> Pipeline:
    """Return the node from what there is to the report; records need not be there yet."""
    return Pipeline(
        [
            Node(
                write_report,
                inputs=[
                    "run_folder",
                    "ingestion_record",
                    "reconstruction_quality",
                    "statistics_record",
                    "training_record",
                    "combination_record",
                    "evaluation_record",
                ],
                outputs="report",
                name="write_report",
            )
        ]
    )
