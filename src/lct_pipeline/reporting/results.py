"""What a report is made of: everything that a run has left so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeGuard

from pandas import DataFrame

from lct_pipeline.datasets.results import CombinationResult, EvaluationRow
from lct_pipeline.datasets.run_folder import RunFolder
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import DataError
from lct_pipeline.models.description import ModelDescription


@dataclass(frozen=True)
class Results:
    """All results of a run by their names in the catalog; None, or empty, is not made yet.

    Args:
        run: Name of the run.
        records: Of its sessions, the oldest first.
        network: Description of the network, from its checkpoints.
        num_weights: Number of its weights.
        ingestion: How many images there are by split, and why others cannot be used.
        evaluation: Rows of ``evaluation.json``.
    """

    run: str
    records: list[dict[str, Any]] = field(default_factory=list)
    network: ModelDescription | None = None
    num_weights: int | None = None
    ingestion: dict[str, Any] | None = None
    pixel_statistics: DataFrame | None = None
    latent_statistics: DataFrame | None = None
    reconstruction_quality: dict[str, Any] | None = None
    training_metrics: DataFrame | None = None
    stage_samples: bytes | None = None
    td_statistics: DataFrame | None = None
    td_summary: DataFrame | None = None
    search_history: DataFrame | None = None
    combination: CombinationResult | None = None
    combination_report: DataFrame | None = None
    evaluation: list[EvaluationRow] = field(default_factory=list)
    distance_by_size: DataFrame | None = None
    two_step_selection: DataFrame | None = None
    copying: dict[str, Any] | None = None
    nearest_neighbours: bytes | None = None
    sample_panels: TensorFile | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameters of the last session."""
        return self.records[-1]["parameters"] if self.records else {}


def is_there(table: DataFrame | None) -> TypeGuard[DataFrame]:
    """Return whether a table was made and has rows."""
    return table is not None and not table.empty


def results_of(
    run: RunFolder, ingestion: dict[str, Any] | None, training: dict[str, Any] | None
) -> Results:
    """Return what a run has left.

    Args:
        run: Its folders.
        ingestion: Record of the ingestion of its images.
        training: Record of its training; None where it was not trained here, or not to its end.

    Raises:
        DataError: The run has left nothing: there is no such run.
    """
    network, num_weights = _model(run, training)
    evaluation = run.evaluation
    pixels = run.table("pixel_statistics")
    if num_weights is None and pixels is None and not evaluation:
        raise DataError(
            f"run {run.name} has left nothing to report: `kedro lct runs` lists those that "
            "have, and `kedro run --pipeline=train` works from nothing."
        )
    tables = (
        "latent_statistics",
        "training_metrics",
        "td_statistics",
        "td_summary",
        "combination_report",
        "distance_by_size",
        "two_step_selection",
    )
    return Results(
        run=run.name,
        records=run.records,
        network=network,
        num_weights=num_weights,
        ingestion=ingestion,
        pixel_statistics=pixels,
        reconstruction_quality=run.values("reconstruction_quality"),
        stage_samples=run.picture("stage_samples"),
        search_history=run.table("search_history"),
        combination=run.combination,
        evaluation=evaluation,
        copying=run.values("copying"),
        nearest_neighbours=run.picture("nearest_neighbours"),
        sample_panels=run.tensors("sample_panels"),
        **{name: run.table(name) for name in tables},
    )


def _model(
    run: RunFolder, training: dict[str, Any] | None
) -> tuple[ModelDescription | None, int | None]:
    """Return the description of the network and the number of its weights, where there is one."""
    if training is not None:
        network = ModelDescription.from_json(training["network"])
        return network, training["num_weights"]
    names = run.checkpoints.names()
    if not names:
        return None, None
    last = run.checkpoints.read(names[-1])
    num_weights = sum(tensor.numel() for tensor in last.tensors.values())
    return run.checkpoints.header(names[-1]).network, num_weights
