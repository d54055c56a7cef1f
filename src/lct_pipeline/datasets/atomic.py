"""Any one-file dataset of kedro-datasets, saved whole or not at all, with a preview for kedro-viz.

The ones of kedro-datasets write to the final path, where a killed or failed save leaves an empty
file that counts as existing; here they write beside it, and the file is renamed. And they import
matplotlib and plotly when a catalog is merely listed; here when they are used.
"""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
from kedro.io import AbstractDataset, AbstractVersionedDataset, DatasetError, Version
from kedro_datasets._typing import (
    ImagePreview,
    JSONPreview,
    PlotlyPreview,
    TablePreview,
)

from lct_pipeline.datasets.files import atomic_path, missing
from lct_pipeline.datasets.previews import NOTHING, table
from lct_pipeline.datasets.results import CombinationResult, EvaluationResult, Result
from lct_pipeline.errors import DataError
from lct_pipeline.given_files import regular_file
from lct_pipeline.models.digests import file_digest

BY_SUFFIX = {
    ".parquet": "pandas.ParquetDataset",
    ".json": "json.JSONDataset",
    ".png": "matplotlib.MatplotlibDataset",
    ".html": "text.TextDataset",
}
UTF_8 = {"encoding": "utf-8"}  # whatever the locale says: a page says so of itself
OPTIONS: dict[str, dict[str, Any]] = {
    "text.TextDataset": {"fs_args": {"open_args_load": UTF_8, "open_args_save": UTF_8}}
}


RESULTS: dict[str, type[Result]] = {
    "combination": CombinationResult,
    "evaluation": EvaluationResult,
}


def _table(path: Path, nrows: int = 10) -> TablePreview:
    return table(pd.read_parquet(path).head(nrows))


def _json(path: Path) -> JSONPreview:
    return JSONPreview(path.read_text())


def _chart(path: Path) -> PlotlyPreview:
    return PlotlyPreview(json.loads(path.read_bytes()))


def _picture(path: Path) -> ImagePreview:
    return ImagePreview(base64.b64encode(path.read_bytes()).decode())


PREVIEWS: dict[str, Callable[..., Any]] = {  # not of pages, whose styles would spread
    "pandas.ParquetDataset": _table,
    "json.JSONDataset": _json,
    "plotly.JSONDataset": _chart,
    "matplotlib.MatplotlibDataset": _picture,
}


class AtomicDataset(AbstractVersionedDataset[Any, Any]):
    """``AtomicDataset`` keeps one local file by a dataset of kedro-datasets.

    Example for the catalog:

    .. code-block:: yaml

        training_curves:
          type: lct_pipeline.datasets.atomic.AtomicDataset
          filepath: data/08_reporting/run/training_curves.json
          dataset: plotly.JSONDataset
          latest: true

    Args:
        filepath: The file; with ``versioned`` a folder of that name holds the versions.
        dataset: Type of the dataset that reads and writes it; None: by the suffix.
        version: Which version to load and to save.
        optional: Whether a missing file loads as None instead of raising.
        latest: Whether each save is also copied to the folder above, as that of the last run.
        written_by: Name of the pipeline that writes it, for the message when it is missing.
        metadata: Anything, for plugins such as kedro-viz.
    """

    def __init__(
        self,
        *,
        filepath: str,
        dataset: str | None = None,
        version: Version | None = None,
        optional: bool = False,
        latest: bool = False,
        written_by: str = "train",
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(filepath=PurePosixPath(filepath), version=version)
        self._dataset = dataset or BY_SUFFIX[Path(filepath).suffix]
        self._optional, self._latest = optional, latest
        self._written_by, self.metadata = written_by, metadata
        read = PREVIEWS.get(self._dataset)
        if read is not None:  # kedro-viz goes by the annotation of what it returns
            self.preview: Any = wraps(read)(partial(self._preview, read))

    @property
    def written_by(self) -> str | None:
        """Name of the pipeline that writes what cannot be done without; None: it can be."""
        return None if self._optional else self._written_by

    def load(self) -> Any:
        """Return what is in the file, or None where it may be missing and is.

        Raises:
            DataError: The file is not there.
        """
        path = self._found()
        if path is not None:
            return self._read(path)
        if self._optional:
            return None
        raise DataError(missing(Path(self._filepath), self._written_by))

    def save(self, data: Any) -> None:
        """Write beside the file and rename; the copy above comes first, the file means done."""
        path = Path(self._get_save_path())
        with atomic_path(path) as temporary:
            self._write(data, temporary)
            if self._latest:
                with atomic_path(path.parents[1] / path.name) as copy:
                    shutil.copyfile(temporary, copy)

    def content_digest(self) -> str:
        """Return the SHA-256 of the file."""
        return file_digest(Path(self._get_load_path()))

    def _read(self, path: Path) -> Any:
        if path.suffix == ".png":  # kedro's dataset of figures only saves
            return path.read_bytes()
        return self._at(path).load()

    def _write(self, data: Any, path: Path) -> None:
        self._at(path).save(data)

    def _at(self, path: Path) -> AbstractDataset:
        config = {"type": self._dataset, "filepath": str(path)}
        options = OPTIONS.get(self._dataset, {})
        return AbstractDataset.from_config(path.name, config | options)

    def _found(self) -> Path | None:
        """Return the file, the newest version of it, or None where there is none."""
        try:
            path = Path(self._get_load_path())
        except DatasetError:  # no version yet
            return None
        return regular_file(path) if path.exists() else None

    def _preview(self, read: Callable[..., Any], **options: Any) -> Any:
        path = self._found()
        return NOTHING if path is None else read(path, **options)

    def _exists(self) -> bool:
        return self._found() is not None

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "dataset": self._dataset}


class ResultDataset(AtomicDataset):
    """``ResultDataset`` keeps one of ``RESULTS`` in a JSON file.

    Args:
        filepath: The file.
        result: Which.
        settings: See :class:`AtomicDataset`.
    """

    def __init__(self, *, filepath: str, result: str, **settings: Any) -> None:
        super().__init__(filepath=filepath, **settings)
        self._result = RESULTS[result]

    def _read(self, path: Path) -> Result:
        return self._result.of(super()._read(path))

    def _write(self, data: Result, path: Path) -> None:
        super()._write(json.loads(data.model_dump_json()), path)
