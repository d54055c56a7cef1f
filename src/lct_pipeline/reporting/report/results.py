"""What a report is made of: everything that a run has left so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeGuard

if TYPE_CHECKING:
    from pandas import DataFrame

    from lct_pipeline.datasets.tensors import TensorFile


@dataclass(frozen=True)
class Results:
    """All results of a run by their names in the catalog; None, or empty, is not made yet.

    Args:
        run: Name of the run.
        records: Of its sessions, the oldest first.
        network: Description of the network, from its checkpoints.
        num_weights: Number of its weights.
        evaluation: Rows of ``evaluation.json``.
    """

    run: str
    records: list[dict[str, Any]] = field(default_factory=list)
    network: dict[str, Any] | None = None
    num_weights: int | None = None
    image_manifest: DataFrame | None = None
    pixel_statistics: DataFrame | None = None
    latent_statistics: DataFrame | None = None
    reconstruction_quality: dict[str, Any] | None = None
    training_metrics: DataFrame | None = None
    stage_samples: bytes | None = None
    td_statistics: DataFrame | None = None
    td_summary: DataFrame | None = None
    search_history: DataFrame | None = None
    combination: dict[str, Any] | None = None
    combination_report: DataFrame | None = None
    evaluation: list[dict[str, Any]] = field(default_factory=list)
    distance_by_size: DataFrame | None = None
    second_step_choice: DataFrame | None = None
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
