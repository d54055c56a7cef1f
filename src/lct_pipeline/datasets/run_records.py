"""What ran: one JSON file for each session of Kedro on a run."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from kedro.io import AbstractDataset
from kedro_datasets._typing import JSONPreview

from lct_pipeline.datasets.files import atomic_path
from lct_pipeline.errors import DataError

logger = logging.getLogger(__name__)

Record = dict[str, Any]
TRAIN_NODE = "training.train_model"
NOTHING: Any = None  # a preview of it


def read_records(folder: Path) -> list[Record]:
    """Return all records in a folder, the oldest first.

    Raises:
        DataError: One cannot be read.
    """
    return [_read(path) for path in sorted(folder.glob("[!.]*.json"))]


def _read(path: Path) -> Record:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} is not a readable record of a run: {error}. Remove it."
        ) from error


class RunRecordsDataset(AbstractDataset[Record, list[Record]]):
    """``RunRecordsDataset`` keeps a record for each session, named by when it started.

    Saving the record of a session again replaces it: it grows while the session runs.

    Args:
        path: The folder.
        metadata: Anything, for plugins such as kedro-viz.
    """

    def __init__(self, *, path: str, metadata: dict[str, Any] | None = None) -> None:
        self._path = Path(path)
        self.metadata = metadata

    def load(self) -> list[Record]:
        """Return all records, the oldest first."""
        return read_records(self._path)

    def save(self, data: Record) -> None:
        """Write one record atomically."""
        with atomic_path(self._path / f"{data['started']}.json") as temporary:
            temporary.write_text(json.dumps(data, indent=1))

    def hold(self) -> FileLock:
        """Return the lock of this run, taken; wait where another process has it.

        It ends with the process, however that ends.
        """
        self._path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._path.parent / ".lock")
        try:
            return lock.acquire(timeout=0).lock
        except Timeout:
            run = self._path.parent.name
            logger.warning("Another process works on run %s: waiting for its end.", run)
            return lock.acquire(poll_interval=0.5).lock

    def preview(self) -> JSONPreview:
        """Return the last record for kedro-viz."""
        records = self.load()
        return JSONPreview(json.dumps(records[-1])) if records else NOTHING

    def _exists(self) -> bool:
        return bool(read_records(self._path))

    def _describe(self) -> dict[str, Any]:
        return {"path": str(self._path)}
