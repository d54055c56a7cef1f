"""Nodes of the cataloging stage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lct_pipeline.lazy_types import CheckpointStore, DataFrame, ExternalCheckpoints
from lct_pipeline.parameters.evaluation import Features


def import_checkpoints(
    external_checkpoints: ExternalCheckpoints | None,
    previous_checkpoints: CheckpointStore,
) -> Iterator[Any]:
    """Copy checkpoints of another trainer, or go on copying; yield one at a time."""
    from lct_pipeline.pipelines.cataloging.checkpoints import copied_checkpoints

    yield from copied_checkpoints(external_checkpoints, previous_checkpoints)


def index_checkpoints(checkpoints: CheckpointStore, features: Features) -> DataFrame:
    """Return one row per checkpoint, sorted by step; tensors are not read."""
    from lct_pipeline.pipelines.cataloging.checkpoints import index_of

    return index_of(checkpoints, features)
