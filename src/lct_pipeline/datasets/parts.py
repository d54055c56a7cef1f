"""Results that are written in parts: they exist when the last part does.

A node that streams yields values; what it yields last is a :class:`Last`. With that the dataset
writes its index, so that ``exists()``, and with it ``kedro run --only-missing-outputs``, means
*complete*. Whatever is written after that without an end takes the index away again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import pandas as pd
import pyarrow.parquet as pq
from kedro.io import AbstractDataset
from kedro_datasets._typing import TablePreview
from pandas import DataFrame

from lct_pipeline.datasets.atomic import AtomicDataset
from lct_pipeline.datasets.files import atomic_path
from lct_pipeline.datasets.previews import NOTHING, table
from lct_pipeline.given_files import indexed_file, regular_file
from lct_pipeline.models.digests import digest_of_digests, file_digest

logger = logging.getLogger(__name__)

INDEX = "index.json"
COMPLETE_KEY = "complete"  # false in what a node writes again and again until it ends
T = TypeVar("T")


@dataclass(frozen=True)
class Last(Generic[T]):
    """The last value that a node yields for a dataset."""

    value: T


def opened(data: T | Last[T]) -> tuple[T, bool]:
    """Return a value that was yielded, and whether it is the last one."""
    return (data.value, True) if isinstance(data, Last) else (data, False)


def close_folder(folder: Path, names: Iterable[str]) -> None:
    """Write the index of a folder: it is complete with these files."""
    with atomic_path(folder / INDEX) as temporary:
        temporary.write_text(json.dumps({"files": sorted(names)}))


def open_folder(folder: Path) -> None:
    """Take the index away: something is written that is not the last."""
    (folder / INDEX).unlink(missing_ok=True)


def is_complete(folder: Path) -> bool:
    """Return whether a folder has its index and all files that it names."""
    try:
        files = json.loads(regular_file(folder / INDEX).read_text())["files"]
    except FileNotFoundError:
        return False
    return all(indexed_file(folder / INDEX, name).exists() for name in files)


class ParquetPartsDataset(AbstractDataset[DataFrame | Last[DataFrame], DataFrame]):
    """``ParquetPartsDataset`` appends pieces of a table to a folder.

    A piece is named by the first value of its key column, so writing a piece again, as a continued
    run does, replaces it. Without pieces the table is empty. It exists when the
    :class:`~lct_pipeline.datasets.parts.Last` piece is saved, and loads before that too.

    Example for the catalog:

    .. code-block:: yaml

        training_metrics:
          type: lct_pipeline.datasets.parts.ParquetPartsDataset
          path: data/06_models/run/training_metrics
          key: step

    Args:
        path: The folder.
        key: Integer column that orders the pieces.
        metadata: Anything, for plugins such as kedro-viz.
    """

    def __init__(
        self, *, path: str, key: str, metadata: dict[str, Any] | None = None
    ) -> None:
        self._path = Path(path)
        self._key = key
        self.metadata = metadata

    def load(self) -> DataFrame:
        """Return all pieces as one table, in the order of the key."""
        parts = [pd.read_parquet(path) for path in self._parts()]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    def save(self, data: DataFrame | Last[DataFrame]) -> None:
        """Write one piece atomically; an empty piece is nothing."""
        rows, is_last = opened(data)
        if not is_last:
            open_folder(self._path)
        if not rows.empty:
            number = int(rows[self._key].iloc[0])
            with atomic_path(self._path / f"part-{number:09d}.parquet") as temporary:
                rows.to_parquet(temporary, index=False)
        if is_last:
            close_folder(self._path, (path.name for path in self._parts()))

    def preview(self, nrows: int = 10) -> TablePreview:
        """Return the last rows for kedro-viz."""
        return table(self.load().tail(nrows)) if self._parts() else NOTHING

    def content_digest(self) -> str:
        """Return a digest of all pieces."""
        return digest_of_digests(file_digest(path) for path in self._parts())

    def _parts(self) -> list[Path]:
        return [regular_file(p) for p in sorted(self._path.glob("part-*.parquet"))]

    def _exists(self) -> bool:
        return is_complete(self._path)

    def _describe(self) -> dict[str, Any]:
        return {"path": str(self._path), "key": self._key}


class GrowingTableDataset(AtomicDataset):
    """``GrowingTableDataset`` keeps a table with its attributes in one Parquet file.

    Each save is the whole table. It exists when the :class:`~lct_pipeline.datasets.parts.Last` is
    saved, and loads before that too, empty where there is none.

    Args:
        filepath: The file.
        metadata: Anything, for plugins such as kedro-viz.
    """

    def load(self) -> DataFrame:
        """Return the table as it is so far."""
        if not super()._exists():
            return DataFrame()
        table = super().load()
        table.attrs.pop(COMPLETE_KEY, None)
        return table

    def save(self, data: DataFrame | Last[DataFrame]) -> None:
        """Write the table atomically; one without rows is no file."""
        table, is_last = opened(data)
        if table.empty:
            Path(self._filepath).unlink(missing_ok=True)
            return
        copy = table.copy(deep=False)
        copy.attrs = {**table.attrs, COMPLETE_KEY: is_last}
        super().save(copy)

    def _exists(self) -> bool:
        path = self._found()
        if path is None:
            return False
        stored: dict[str, Any] = pq.read_schema(path).pandas_metadata or {}
        return stored.get("attributes", {}).get(COMPLETE_KEY, False)


class GrowingPictureDataset(AtomicDataset):
    """``GrowingPictureDataset`` keeps a picture that a node draws again while it works.

    What is saved is the function that draws it, or that returns None where it stays as it is. It is
    called in its turn, when what the node yielded with it, for datasets before, is saved.

    Args:
        filepath: The file.
        metadata: Anything, for plugins such as kedro-viz.
    """

    _is_told = False

    def save(self, data: Callable[[], Any]) -> None:
        """Draw, and write atomically; the first time the log says where to look."""
        figure = data()
        if figure is None:
            return
        super().save(figure)
        if not self._is_told:
            logger.info("Samples are in %s.", self._filepath)
        self._is_told = True
