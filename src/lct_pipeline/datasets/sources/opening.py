"""Which kind of source ``ingestion.source`` is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from lct_pipeline.datasets.sources import tar_archive
from lct_pipeline.datasets.sources.arrays import ArraySource
from lct_pipeline.datasets.sources.base import ImageSource, SourceOptions
from lct_pipeline.datasets.sources.digits import BUILT_IN, DigitsSource
from lct_pipeline.datasets.sources.folder import FolderSource, files_below, walk
from lct_pipeline.datasets.sources.hub import (
    PREFIX,
    is_saved_dataset,
    open_hub,
    open_saved,
)
from lct_pipeline.datasets.sources.names import SUFFIXES, expand, is_image_name
from lct_pipeline.datasets.sources.tables import open_parquet
from lct_pipeline.datasets.sources.tar_archive import TarSource
from lct_pipeline.datasets.sources.zip_archive import ZipSource
from lct_pipeline.errors import DataError

_ONE: dict[str, Callable[[Path, SourceOptions], ImageSource]] = {
    ".zip": ZipSource,
    ".npy": ArraySource,
    ".npz": ArraySource,
}
_SEVERAL: dict[Callable[[dict[str, Path], SourceOptions], ImageSource], tuple[str, ...]]
_SEVERAL = {open_parquet: (".parquet",), TarSource: tar_archive.SUFFIXES}

_KINDS = (
    "a folder, .zip, .tar, .parquet, .npy or .npz; a pattern of .tar or .parquet files; "
    f"{PREFIX}<id>; or {BUILT_IN!r} for the built-in images"
)


def open_source(source: str, options: SourceOptions) -> ImageSource:
    """Return the images that ``ingestion.source`` names.

    Raises:
        DataError: There is nothing of that name, it is damaged, or it holds no image.
    """
    images = _open(source, options)
    if len(images) == 0:
        raise DataError(
            f"ingestion.source={source!r} holds no image: none of {', '.join(SUFFIXES)} below it, "
            "nor rows of images."
        )
    return images


def _open(source: str, options: SourceOptions) -> ImageSource:
    if source == BUILT_IN:
        return DigitsSource(options)
    if source.startswith(PREFIX):
        return open_hub(source, options)
    path = Path(source).expanduser()
    if path.is_dir():
        return _open_folder(path, options)
    if path.suffix.lower() in _ONE and path.exists():
        return _ONE[path.suffix.lower()](path, options)
    files = {"": path} if path.exists() else _files_of_pattern(str(path))
    for kind, suffixes in _SEVERAL.items():
        if all(file.name.lower().endswith(suffixes) for file in files.values()):
            return kind(files, options)
    raise DataError(f"ingestion.source={source!r} is none of: {_KINDS}.")


def _open_folder(folder: Path, options: SourceOptions) -> ImageSource:
    """Return the images of a folder; where it has none, those of its .parquet or .tar files."""
    if is_saved_dataset(folder):
        return open_saved(folder, options)
    if not any(is_image_name(name) for name, _ in walk(str(folder))):
        for kind, suffixes in _SEVERAL.items():
            files = files_below(folder, suffixes)
            if files:
                return kind(files, options)
    return FolderSource(folder, options)


def _files_of_pattern(pattern: str) -> dict[str, Path]:
    """Return the files that a pattern stands for by their names below the folder of all.

    Raises:
        DataError: One is not there, or none is.
    """
    paths = [Path(name) for name in expand(pattern)]
    if [str(path) for path in paths] == [pattern]:
        raise DataError(f"ingestion.source={pattern!r} does not exist. Give {_KINDS}.")
    missing = next((path for path in paths if not path.is_file()), None)
    if missing or not paths:
        raise DataError(
            f"ingestion.source={pattern!r}: there is no file {str(missing or pattern)!r}."
        )
    top = os.path.commonpath([path.parent for path in paths])
    return {os.path.relpath(path, top): path for path in paths}
