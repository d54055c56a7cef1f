"""Which kind of source ``ingestion.source`` is, and the catalog's entry for it."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from lct_pipeline.datasets.sources import tar_archive
from lct_pipeline.datasets.sources.arrays import BUILT_IN, ArraySource, DigitsSource
from lct_pipeline.datasets.sources.base import (
    SUFFIXES,
    ImageSource,
    SourceOptions,
    is_image_name,
)
from lct_pipeline.datasets.sources.folder import FolderSource, files_below, walk
from lct_pipeline.datasets.sources.hub import (
    PREFIX,
    is_saved_dataset,
    open_hub,
    open_saved,
)
from lct_pipeline.datasets.sources.tables import open_parquet
from lct_pipeline.datasets.sources.tar_archive import TarSource
from lct_pipeline.datasets.sources.zip_archive import ZipSource
from lct_pipeline.errors import DataError
from lct_pipeline.given_files import regular_file

_ONE: dict[str, Callable[[Path, SourceOptions], ImageSource]] = {
    ".zip": ZipSource,
    ".npy": ArraySource,
    ".npz": ArraySource,
}
_SEVERAL: dict[Callable[[dict[str, Path], SourceOptions], ImageSource], tuple[str, ...]]
_SEVERAL = {open_parquet: (".parquet",), TarSource: tar_archive.SUFFIXES}

_ONLY_SPLIT = "train"  # ingestion.hub_split of what has no splits

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")

_KINDS = (
    "a folder, .zip, .tar, .parquet, .npy or .npz; a pattern of .tar or .parquet files; "
    f"{PREFIX}<id>; or {BUILT_IN!r} for the built-in images"
)


class ImageSourceDataset(AbstractDataset[None, ImageSource | None]):
    """``ImageSourceDataset`` opens the images that are to be read.

    Example for the catalog:

    .. code-block:: yaml

        image_source:
          type: lct_pipeline.datasets.sources.ImageSourceDataset
          source: shards/train-{000..009}.tar
          labels: folders
          image_column: null
          label_column: label
          hub_split: train
          max_mib: 256

    Args:
        source: The built-in ``digits``, a folder, an archive, a table or array file, a pattern of
            them, or ``hf://datasets/<id>``. With None there is nothing to load, and None is.
        metadata: Anything, for plugins such as kedro-viz.
        options: ``labels``: ``folders``, ``column``, ``none``, or a .csv; ``image_column`` of a
            table, an array file or the .csv, None for the only one that can be meant;
            ``label_column`` of these; ``hub_split`` of a Hugging Face data set; ``max_mib``: larger
            files are not read; ``shared``: what has no effect here is not refused.
    """

    def __init__(
        self,
        *,
        source: str | None,
        metadata: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self._source, self._options = source, SourceOptions(**options)
        self._fingerprint: str | None = None
        self._checked: ImageSource | None = None
        self.metadata = metadata

    def check(self) -> None:
        """Open the source for the next load: refuse one that is not there, or is no source."""
        self._checked = self.load()

    def load(self) -> ImageSource | None:
        """Return the source; images are read when they are asked for."""
        if self._source is None:
            return None
        source = self._checked or open_source(self._source, self._options)
        self._checked = None
        self._fingerprint = source.fingerprint
        return source

    def save(self, data: None) -> None:
        """Sources are only read."""
        raise DataError("an image source cannot be written.")

    def content_digest(self) -> str:
        """Return the fingerprint of the source as it was when it was opened."""
        assert self._fingerprint is not None
        return self._fingerprint

    def _exists(self) -> bool:
        return self._fingerprint is not None

    def _describe(self) -> dict[str, Any]:
        return {"source": self._source}


def open_source(source: str, options: SourceOptions) -> ImageSource:
    """Return the images that ``ingestion.source`` names.

    Raises:
        DataError: There is nothing of that name, it is damaged, or it holds no image.
    """
    if options.hub_split != _ONLY_SPLIT and not (options.shared or _has_splits(source)):
        raise DataError(
            f"ingestion.hub_split={options.hub_split!r} has no effect on ingestion.source="
            f"{source!r}, which is no Hugging Face data set: leave it {_ONLY_SPLIT}."
        )
    images = _open(source, options)
    if len(images) == 0:
        raise DataError(
            f"ingestion.source={source!r} holds no image: none of {', '.join(SUFFIXES)} below it, "
            "nor rows of images."
        )
    return images


def _has_splits(source: str) -> bool:
    folder = Path(source).expanduser()
    return source.startswith(PREFIX) or is_saved_dataset(folder)


def _open(source: str, options: SourceOptions) -> ImageSource:
    if source == BUILT_IN:
        return DigitsSource(options)
    if source.startswith(PREFIX):
        return open_hub(source, options)
    path = Path(source).expanduser()
    if path.is_dir():
        return _open_folder(path, options)
    files = {"": path} if path.exists() else _files_of_pattern(str(path))
    for file in files.values():
        regular_file(file)
    if path.suffix.lower() in _ONE and path.exists():
        return _ONE[path.suffix.lower()](path, options)
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
    missing = next((path for path in paths if not path.exists()), None)
    if missing or not paths:
        raise DataError(
            f"ingestion.source={pattern!r}: there is no file {str(missing or pattern)!r}."
        )
    top = os.path.commonpath([path.parent for path in paths])
    return {os.path.relpath(path, top): path for path in paths}


def expand(pattern: str) -> list[str]:
    """Return the names that a pattern stands for, in its order, as ``train-{000..009}.tar``.

    Braces are expanded as shells do, wildcards match what is there. A name without wildcards is
    returned whether or not there is such a file.
    """
    braces = _BRACES.search(pattern)
    if braces is None:
        folder = pattern
        while folder and not os.path.isdir(folder):
            folder = os.path.dirname(folder)
        rest = pattern.removeprefix(folder)
        matches = sorted(glob.glob(glob.escape(folder) + rest, recursive=True))
        return matches if glob.has_magic(rest) else [pattern]
    before, after = pattern[: braces.start()], pattern[braces.end() :]
    choices = _choices(braces[1])
    return [name for choice in choices for name in expand(before + choice + after)]


def _choices(text: str) -> list[str]:
    """Return what may stand for a pair of braces: the numbers of a range, or a list."""
    limits = _RANGE.fullmatch(text)
    if limits is None:
        return text.split(",")
    numbers = range(int(limits[1]), int(limits[2]) + 1)
    return [str(number).zfill(len(limits[1])) for number in numbers]
