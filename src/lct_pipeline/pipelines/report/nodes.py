"""Node of the report stage."""

from __future__ import annotations

from typing import Any

from lct_pipeline.lazy_types import RunFolder

Record = dict[str, Any] | None


def write_report(
    run_folder: RunFolder,
    ingestion_record: Record,
    reconstruction_quality: Record,
    statistics_record: Record,
    training_record: Record,
    combination_record: Record,
    evaluation_record: Record,
) -> str:
    """Return the report of all that a run has left so far, as one HTML file.

    The records say which stages have ended, and make Kedro run those first that run in the same
    session.
    """
    from lct_pipeline.reporting.page import page

    return page(run_folder, ingestion_record, training_record)
