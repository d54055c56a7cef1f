"""What an evaluation ends with: tables in the log, charts, and a record of the main values."""

from __future__ import annotations

from typing import Any

from pandas import DataFrame
from plotly.graph_objects import Figure

from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import DataError
from lct_pipeline.evaluation.protocol import log_by_protocol
from lct_pipeline.reporting.curves import draw_size_bias, draw_two_step_sweep


def conclusion(
    evaluation_table: DataFrame,
    two_step_selection: DataFrame,
    distance_by_size: DataFrame,
    sample_panels: TensorFile,
    copying: dict[str, Any],
) -> tuple[Figure, Figure, dict[str, Any]]:
    """Log the values by protocol; return two charts and the record.

    Raises:
        DataError: There is no value.
    """
    if evaluation_table.empty:
        raise DataError("the evaluation has no rows.")
    log_by_protocol(evaluation_table)
    record = {
        "distances": _distances(evaluation_table),
        "num_models": evaluation_table["model"].nunique(),
        "num_panels": len(sample_panels.metadata["panels"]),
        "copying": copying.get("median_ratio"),
    }
    return (
        draw_two_step_sweep(two_step_selection),
        draw_size_bias(distance_by_size),
        record,
    )


def _distances(table: DataFrame) -> list[dict[str, Any]]:
    """Return the first metric, a Frechet distance, of each model and number of evaluations."""
    first = table[
        (table["metric"] == table["metric"].iloc[0])
        & (table["protocol"] == table["protocol"].iloc[0])
    ]
    return first[["model", "nfe", "metric", "value", "std"]].to_dict(orient="records")
