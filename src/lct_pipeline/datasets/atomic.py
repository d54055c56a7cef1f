"""Datasets of one file each, whose saves are atomic, with previews for kedro-viz.

The ones of kedro-datasets write to the final path, where a killed or failed save leaves an empty
file that counts as existing; these write beside it and rename. And those import pandas, matplotlib
and plotly when the catalog is merely listed; these when a table or figure is read or written.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
from abc import abstractmethod
from glob import glob
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from kedro.io import AbstractVersionedDataset, DatasetError, Version
from kedro_datasets._typing import (
    ImagePreview,
    JSONPreview,
    PlotlyPreview,
    TablePreview,
)

from lct_pipeline.datasets.files import atomic_path
from lct_pipeline.datasets.previews import NOTHING, table
from lct_pipeline.errors import DataError
from lct_pipeline.lazy_types import DataFrame, pd
from lct_pipeline.models.digests import file_digest

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from plotly.graph_objects import Figure as PlotlyFigure


class FileDataset(AbstractVersionedDataset[Any, Any]):
    """One local file, replaced whole or not at all; with ``versioned`` one for each run.

    Args:
        filepath: The file; with ``versioned`` a folder of that name holds the versions.
        version: Which version to load and to save.
        optional: Whether a missing file loads as None instead of raising.
        latest: Whether each save is also copied to the folder above, as that of the last run.
        metadata: Anything, for plugins such as kedro-viz.
    """

    def __init__(
        self,
        *,
        filepath: str,
        version: Version | None = None,
        optional: bool = False,
        latest: bool = False,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            filepath=PurePosixPath(filepath),
            version=version,
            exists_function=os.path.exists,
            glob_function=glob,
        )
        self._optional, self._latest = optional, latest
        self.metadata = metadata

    @abstractmethod
    def _read(self, path: Path) -> Any:
        """Return what is in the file."""

    @abstractmethod
    def _write(self, data: Any, path: Path) -> None:
        """Write a file that is not there yet."""

    def load(self) -> Any:
        """Return what is in the file, or None where it may be missing and is.

        Raises:
            DataError: The file is not there.
        """
        if self._optional and not self._exists():
            return None
        path = Path(self._get_load_path())
        try:
            return self._read(path)
        except FileNotFoundError as error:
            raise DataError(
                f"{path} is not there: an earlier stage writes it. "
                "`kedro run --pipeline=train` works from nothing."
            ) from error

    def save(self, data: Any) -> None:
        """Write beside the file and rename."""
        path = Path(self._get_save_path())
        with atomic_path(path) as temporary:
            self._write(data, temporary)
        if self._latest:
            with atomic_path(path.parents[1] / path.name) as temporary:
                shutil.copyfile(path, temporary)

    def content_digest(self) -> str:
        """Return the SHA-256 of the file."""
        return file_digest(Path(self._get_load_path()))

    def _exists(self) -> bool:
        try:
            return Path(self._get_load_path()).exists()
        except DatasetError:  # no version yet
            return False

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "version": self._version}


class ParquetDataset(FileDataset):
    """A table."""

    def _read(self, path: Path) -> DataFrame:
        return pd.read_parquet(path)

    def _write(self, data: DataFrame, path: Path) -> None:
        data.to_parquet(path)

    def preview(self, nrows: int = 10) -> TablePreview:
        """Return the first rows for kedro-viz."""
        return table(self.load().head(nrows)) if self._exists() else NOTHING


class JSONDataset(FileDataset):
    """Values that JSON can say."""

    def _read(self, path: Path) -> Any:
        return json.loads(path.read_text())

    def _write(self, data: Any, path: Path) -> None:
        path.write_text(json.dumps(data))

    def preview(self) -> JSONPreview:
        """Return the text for kedro-viz."""
        return JSONPreview(json.dumps(self.load())) if self._exists() else NOTHING


class HTMLDataset(FileDataset):
    """A page. No preview: its styles would become those of kedro-viz."""

    def _read(self, path: Path) -> str:
        return path.read_text(encoding="utf-8")

    def _write(self, data: str, path: Path) -> None:
        path.write_text(data, encoding="utf-8")


class PlotlyDataset(FileDataset):
    """An interactive figure."""

    def _read(self, path: Path) -> PlotlyFigure:
        from plotly.io import from_json

        return from_json(path.read_text(), skip_invalid=True)

    def _write(self, data: PlotlyFigure, path: Path) -> None:
        path.write_text(data.to_json())

    def preview(self) -> PlotlyPreview:
        """Return the figure for kedro-viz."""
        if not self._exists():
            return NOTHING
        return PlotlyPreview(json.loads(Path(self._get_load_path()).read_text()))


class MatplotlibDataset(FileDataset):
    """A picture that matplotlib draws; loads as the bytes of the PNG file."""

    def _read(self, path: Path) -> bytes:
        return path.read_bytes()

    def _write(self, data: Figure, path: Path) -> None:
        data.savefig(path, format="png")

    def preview(self) -> ImagePreview:
        """Return the picture for kedro-viz."""
        if not self._exists():
            return NOTHING
        return ImagePreview(base64.b64encode(self.load()).decode())
