"""Node of the report stage."""

from __future__ import annotations

from typing import Any

from lct_pipeline.datasets.tensors import CheckpointStore, TensorFile
from lct_pipeline.errors import DataError
from lct_pipeline.lazy_types import DataFrame


def write_report(
    run_records: list[dict[str, Any]],
    checkpoints: CheckpointStore,
    training_metrics: DataFrame,
    image_manifest: DataFrame | None,
    pixel_statistics: DataFrame | None,
    latent_statistics: DataFrame | None,
    reconstruction_quality: dict[str, Any] | None,
    stage_samples: bytes | None,
    td_statistics: DataFrame | None,
    td_summary: DataFrame | None,
    search_history: DataFrame,
    combination: dict[str, Any] | None,
    combination_report: DataFrame | None,
    evaluation: dict[str, Any] | None,
    distance_by_size: DataFrame | None,
    second_step_choice: DataFrame | None,
    copying: dict[str, Any] | None,
    nearest_neighbours: bytes | None,
    sample_panels: TensorFile | None,
) -> str:
    """Return the report of all that a run has left so far, as one HTML file.

    Raises:
        DataError: The run has left nothing: there is no such run.
    """
    from lct_pipeline.reporting.report.page import page
    from lct_pipeline.reporting.report.results import Results

    network, num_weights = _model(checkpoints)
    if num_weights is None and pixel_statistics is None and evaluation is None:
        raise DataError(
            f"run {checkpoints.run} has left nothing to report: `kedro lct runs` lists those that "
            "have, and `kedro run --pipeline=train` works from nothing."
        )
    return page(
        Results(
            run=checkpoints.run,
            records=run_records,
            network=network,
            num_weights=num_weights,
            image_manifest=image_manifest,
            pixel_statistics=pixel_statistics,
            latent_statistics=latent_statistics,
            reconstruction_quality=reconstruction_quality,
            training_metrics=training_metrics,
            stage_samples=stage_samples,
            td_statistics=td_statistics,
            td_summary=td_summary,
            search_history=search_history,
            combination=combination,
            combination_report=combination_report,
            evaluation=[] if evaluation is None else evaluation["rows"],
            distance_by_size=distance_by_size,
            second_step_choice=second_step_choice,
            copying=copying,
            nearest_neighbours=nearest_neighbours,
            sample_panels=sample_panels,
        )
    )


def _model(checkpoints: CheckpointStore) -> tuple[dict[str, Any] | None, int | None]:
    """Return the description of the network and the number of its weights, where there is one."""
    names = checkpoints.names()
    if not names:
        return None, None
    last = checkpoints.read(names[-1])
    num_weights = sum(tensor.numel() for tensor in last.tensors.values())
    return last.metadata.get("network"), num_weights
