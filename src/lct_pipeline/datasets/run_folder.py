"""What a run has left so far, read when it is asked for: for what shows or hands on all of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.io import AbstractDataset

from lct_pipeline.datasets.checkpoints import CheckpointStore
from lct_pipeline.datasets.json_files import read_json
from lct_pipeline.datasets.results import (
    CombinationResult,
    EvaluationResult,
    EvaluationRow,
)
from lct_pipeline.datasets.run_records import Record, told_records
from lct_pipeline.datasets.tensors import TensorFile, read_tensors
from lct_pipeline.errors import DataError
from lct_pipeline.given_files import regular_file


@dataclass(frozen=True)
class RunFolder:
    """The two folders of a run, by the names of its results; None is not there yet.

    Attributes:
        models: Folder of weights, and of what leads to them.
        reporting: Folder of tables, charts and records.
    """

    models: Path
    reporting: Path

    @property
    def name(self) -> str:
        """Return the name of the run."""
        return self.models.name

    @cached_property
    def checkpoints(self) -> CheckpointStore:
        """Return its checkpoints; there may be none."""
        return CheckpointStore(self.models / "checkpoints")

    @cached_property
    def records(self) -> list[Record]:
        """Return the records of its sessions, the oldest first."""
        return told_records(self.reporting / "records")

    @cached_property
    def evaluation(self) -> list[EvaluationRow]:
        """Return the rows of the evaluation; there may be none."""
        return EvaluationResult.of(self.values("evaluation") or {"rows": []}).rows

    @cached_property
    def combination(self) -> CombinationResult | None:
        """Return the combination, where there is one."""
        value = self.values("combination")
        return None if value is None else CombinationResult.of(value)

    def values(self, name: str) -> Any:
        """Return what a JSON file says."""
        return self._read(f"{name}.json", read_json)

    def picture(self, name: str) -> bytes | None:
        """Return the bytes of a PNG file."""
        return self._read(f"{name}.png", Path.read_bytes)

    def tensors(self, name: str) -> TensorFile | None:
        """Return a file of tensors, verified."""
        return self._read(
            f"{name}.safetensors", lambda path: TensorFile(*read_tensors(path))
        )

    def table(self, name: str) -> pd.DataFrame | None:
        """Return a table with rows: one file, its newest version, or the parts of a folder."""
        path = self._find(f"{name}.parquet")
        if path is not None and path.is_dir():
            path = max(path.glob("*/[!.]*.parquet"), default=None)
        parts = [path] if path else sorted((self.models / name).glob("part-*.parquet"))
        tables = [pd.read_parquet(regular_file(part)) for part in parts]
        found = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
        return None if found.empty else found

    def _read(self, name: str, read: Callable[[Path], Any]) -> Any:
        path = self._find(name)
        return None if path is None else read(regular_file(path))

    def _find(self, name: str) -> Path | None:
        paths = (folder / name for folder in (self.reporting, self.models))
        return next((path for path in paths if path.exists()), None)


class RunFolderDataset(AbstractDataset[None, RunFolder]):
    """``RunFolderDataset`` reads what a run has left.

    Args:
        path: The folder of its weights.
        filepath: The folder of its reports.
        metadata: Anything, for plugins such as kedro-viz.
    """

    def __init__(
        self, *, path: str, filepath: str, metadata: dict[str, Any] | None = None
    ) -> None:
        self._folder = RunFolder(Path(path), Path(filepath))
        self.metadata = metadata

    def load(self) -> RunFolder:
        """Return the run; nothing is read yet."""
        return self._folder

    def save(self, data: None) -> None:
        """Each result has a dataset of its own."""
        raise DataError(
            "the folder of a run is written by the datasets of its results."
        )

    def _describe(self) -> dict[str, Any]:
        return {"path": str(self._folder.models)}
