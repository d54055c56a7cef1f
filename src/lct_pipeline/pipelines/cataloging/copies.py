"""Copies of the checkpoints of another trainer in our own store."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lct_pipeline.datasets.checkpoint_layouts import ExternalCheckpoint
from lct_pipeline.datasets.checkpoints import CheckpointHeader, CheckpointStore, Files
from lct_pipeline.datasets.external_checkpoints import ExternalCheckpoints
from lct_pipeline.datasets.parts import Last
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import DataError, ParameterError
from lct_pipeline.progress import gibibytes, track

logger = logging.getLogger(__name__)


def copied_checkpoints(
    external_checkpoints: ExternalCheckpoints | None,
    previous_checkpoints: CheckpointStore,
) -> Iterator[Files | Last[Files]]:
    """Copy, or go on copying; yield one checkpoint at a time.

    Raises:
        ParameterError: No folder of checkpoints is named.
        DataError: The run holds other checkpoints, or one that is copied is refused.
    """
    if external_checkpoints is None:
        raise ParameterError(
            "no checkpoints to catalog are named: give their folder and a name for the run, "
            "--params=cataloging.source=<folder>,run_id=<name>."
        )
    files = {_name(found): found for found in external_checkpoints.checkpoints}
    origins = {name: external_checkpoints.origin(file) for name, file in files.items()}
    stored = previous_checkpoints.headers()
    _check_stored(stored, origins, previous_checkpoints.folder)
    missing = [name for name in files if name not in stored]
    if not missing:
        logger.info("All %d checkpoints are already copied.", len(files))
        yield Last({})
        return
    num_bytes = len(missing) * external_checkpoints.num_bytes
    _tell_size(len(missing), num_bytes, previous_checkpoints.folder)
    for name in track(
        missing, "import", "checkpoint", total=len(files), initial=len(stored)
    ):
        header = CheckpointHeader(step=files[name].step, source=origins[name])
        tensors = external_checkpoints.read(files[name])
        yield {name: TensorFile(tensors, header.as_metadata())}
    yield Last({})


def _name(checkpoint: ExternalCheckpoint) -> str:
    return f"step-{checkpoint.step:07d}-raw"


def _check_stored(
    stored: dict[str, CheckpointHeader], origins: dict[str, Any], folder: Path
) -> None:
    """Refuse a store with anything that is not a copy of what is to be imported now."""
    for name, header in stored.items():
        if header.source != origins.get(name):
            raise DataError(
                f"{folder} holds {name}, {_difference(header.source, origins.get(name))}."
            )


def _difference(stored: dict[str, Any] | None, origin: dict[str, Any] | None) -> str:
    """Return why a stored checkpoint is not one of those to import, and what to do."""
    if stored is None:
        return "which this project trained itself: give another run_id"
    remedy = "give another run_id, or remove that folder to import anew"
    if origin is None:
        return f"of {stored['file']}, which cataloging.source does not have: {remedy}"
    key = next(key for key in origin if stored.get(key) != origin[key])
    return (
        f"which was imported with {key}={stored.get(key)!r}, and now it is "
        f"{origin[key]!r}: {remedy}"
    )


def _tell_size(num_checkpoints: int, num_bytes: int, folder: Path) -> None:
    """Log how much disk the copies take, and warn when less is free."""
    there = next(path for path in [folder, *folder.parents] if path.exists())
    free = shutil.disk_usage(there).free
    logger.info(
        "%d checkpoints to copy as float32: %s in %s.",
        num_checkpoints,
        gibibytes(num_bytes),
        folder,
    )
    if free < num_bytes:
        logger.warning("Only %s are free there.", gibibytes(free))
