"""A table that is written again and again while it grows, in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pandas import DataFrame

from lct_pipeline.datasets.atomic import AtomicDataset
from lct_pipeline.datasets.parts import Last, opened
from lct_pipeline.datasets.tensors import COMPLETE_KEY


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
