"""A table that grows: one Parquet file for each piece, read back as one data frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from kedro.io import AbstractDataset
from kedro_datasets._typing import TablePreview
from pandas import DataFrame

from lct_pipeline.datasets.files import atomic_path
from lct_pipeline.datasets.parts import (
    Last,
    close_folder,
    is_complete,
    open_folder,
    opened,
)
from lct_pipeline.datasets.previews import NOTHING, table
from lct_pipeline.models.digests import digest_of_digests, file_digest


class ParquetPartsDataset(AbstractDataset[DataFrame | Last[DataFrame], DataFrame]):
    """``ParquetPartsDataset`` appends pieces of a table to a folder.

    A piece is named by the first value of its key column, so writing a piece again, as a continued
    run does, replaces it. Without pieces the table is empty. It exists when the
    :class:`~lct_pipeline.datasets.parts.Last` piece is saved, and loads before that too.

    Example for the catalog:

    .. code-block:: yaml

        training_metrics:
          type: lct_pipeline.datasets.parquet_parts.ParquetPartsDataset
          path: data/06_models/run/training_metrics
          key: step

    Args:
        path: The folder.
        key: Integer column that orders the pieces.
        metadata: Anything, for plugins such as kedro-viz.
    """

    def __init__(
        self,
        *,
        path: str,
        key: str,
        metadata: dict[str, Any] | None = None,
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
        return sorted(self._path.glob("part-*.parquet"))

    def _exists(self) -> bool:
        return is_complete(self._path)

    def _describe(self) -> dict[str, Any]:
        return {"path": str(self._path), "key": self._key}
