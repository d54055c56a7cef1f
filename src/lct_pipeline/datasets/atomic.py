"""Datasets of kedro-datasets whose saves are atomic.

The originals write to the final path: a killed or failed save leaves an empty file that counts as
existing. These write beside it and rename. Everything else, previews for kedro-viz included, is
inherited.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from kedro_datasets import json, matplotlib, pandas, plotly

from lct_pipeline.datasets.files import atomic_path
from lct_pipeline.errors import DataError


class AtomicSave:
    """Mixin that lets a dataset write to a temporary path and renames it afterwards."""

    _temporary: PurePosixPath | None = None

    def _get_save_path(self) -> PurePosixPath:
        return self._temporary or super()._get_save_path()  # type: ignore[misc]

    def load(self) -> Any:
        """Load as the dataset does.

        Raises:
            DataError: The file is not there.
        """
        try:
            return super().load.__wrapped__(self)  # type: ignore[misc]
        except FileNotFoundError as error:
            raise DataError(
                f"{self._get_load_path()} is not there: an earlier stage writes it. "  # type: ignore[attr-defined]
                "`kedro run --pipeline=train` works from nothing."
            ) from error

    def save(self, data: Any) -> None:
        """Save as the dataset does, to a temporary path, and rename."""
        with atomic_path(Path(self._get_save_path())) as temporary:
            self._temporary = PurePosixPath(temporary)
            try:
                # the inner method itself: Kedro's version checks stand around this one already
                super().save.__wrapped__(self, data)  # type: ignore[misc]
            finally:
                self._temporary = None


class ParquetDataset(AtomicSave, pandas.ParquetDataset):
    """``ParquetDataset`` of kedro-datasets with atomic saves."""


class JSONDataset(AtomicSave, json.JSONDataset):
    """``JSONDataset`` of kedro-datasets with atomic saves."""


class PlotlyDataset(AtomicSave, plotly.JSONDataset):
    """``plotly.JSONDataset`` of kedro-datasets with atomic saves."""


class MatplotlibDataset(AtomicSave, matplotlib.MatplotlibDataset):
    """``MatplotlibDataset`` of kedro-datasets with atomic saves."""
