"""Images of Hugging Face data sets: of the hub, or saved by ``save_to_disk``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from lct_pipeline.datasets.sources.base import (
    ImageSource,
    RawImage,
    RefusedEntryError,
    SourceOptions,
    digest_of,
    read_bounded,
    stamp,
)
from lct_pipeline.datasets.sources.columns import (
    choose_image_column,
    entry,
    label_of,
    refuse_unknown_label_column,
    split_image,
)
from lct_pipeline.datasets.sources.labels import refuse_csv
from lct_pipeline.errors import DataError

PREFIX = "hf://datasets/"

_ADDRESS = re.compile(
    r"hf://datasets/(?P<id>[\w.-]+(/[\w.-]+)?)(@(?P<revision>[\w./-]+))?"
)
_SAVED = ("state.json", "dataset_dict.json")  # what `save_to_disk` writes
_ROWS_AT_A_TIME = 16


class HubSource(ImageSource):
    """The rows of a Hugging Face data set, memory-mapped by its library and not decoded by it.

    Args:
        dataset: A ``datasets.Dataset``.
        name: What its rows without a path are called after.
        options: Which columns, and how labels are given.
        caches: Folders of the library's downloads: a row may name a file in one of them instead of
            holding bytes. No other file is opened.

    Raises:
        DataError: It has not the columns.
    """

    def __init__(
        self,
        dataset: Any,
        name: str,
        options: SourceOptions,
        caches: tuple[str, ...] = (),
    ) -> None:
        refuse_csv(name, options)
        self._name, self._options = name, options
        self._caches = tuple(os.path.realpath(folder) for folder in caches)
        self._image = _choose_image(dataset.features, name, options)
        self._label = _choose_label(dataset.features, name, options)
        self._class_names = getattr(dataset.features.get(self._label), "names", None)
        self._rows = _without_decoding(dataset, self._image, self._label)
        files = [Path(file["filename"]) for file in dataset.cache_files]
        stamps = [f"{file.name}:{stamp(file)}" for file in files]
        self.fingerprint = digest_of(
            [name, str(len(self)), str(dataset.features), *stamps]
        )

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._rows)

    def read(self, start: int, stop: int) -> Iterator[RawImage]:
        """Yield the rows' images."""
        stop = min(stop, len(self))
        for begin in range(start, stop, _ROWS_AT_A_TIME):
            rows = self._rows[begin : min(begin + _ROWS_AT_A_TIME, stop)]
            labels = rows.get(self._label, [None] * _ROWS_AT_A_TIME)
            cells = zip(rows[self._image], labels, strict=False)
            for number, (cell, label) in enumerate(cells, begin):
                yield self._entry(number, cell, label)

    def _entry(self, number: int, cell: Any, label: Any) -> RawImage:
        name, content, path = split_image(cell, f"{self._name}[{number}]")
        label = label_of(label, self._class_names)
        if content is not None or path is None:
            return entry(name, content, label, self._options)
        try:
            return entry(name, self._read_cached(path), label, self._options)
        except RefusedEntryError as problem:
            return RawImage(name, b"", label, str(problem))

    def _read_cached(self, path: str) -> bytes:
        """Return the bytes of a file that the library has downloaded."""
        target = os.path.realpath(path)
        if not any(os.path.commonpath([target, c]) == c for c in self._caches):
            raise RefusedEntryError(
                "its row holds no bytes, and names a file that is not part of the data set"
            )
        with open(target, "rb") as file:
            return read_bounded(file, self._options.max_mib)


def open_hub(address: str, options: SourceOptions) -> HubSource:
    """Return the split ``ingestion.hub_split`` of a data set of the hub, downloaded once.

    Args:
        address: ``hf://datasets/<id>`` or ``hf://datasets/<id>@<revision>``.
        options: How it is read.

    Raises:
        DataError: The address is none, the data set or split is not there, or the optional
            dependency is missing.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise DataError(
            f"ingestion.source={address!r} is no data set of the hub: give "
            f"{PREFIX}<owner>/<name> or {PREFIX}<owner>/<name>@<revision>."
        )
    library = _library()
    try:
        dataset = library.load_dataset(
            found["id"], revision=found["revision"], split=options.hub_split
        )
    except Exception as error:  # of the network, the hub, or the files: all kinds
        raise DataError(
            f"ingestion.source={address!r} cannot be loaded with ingestion.hub_split="
            f"{options.hub_split!r}: {_first_line(error)}"
        ) from error
    name = f"{address.removeprefix(PREFIX)}/{options.hub_split}"
    return HubSource(dataset, name, options, _caches(library))


def is_saved_dataset(folder: Path) -> bool:
    """Return whether ``save_to_disk`` wrote a folder."""
    return any((folder / name).is_file() for name in _SAVED)


def open_saved(folder: Path, options: SourceOptions) -> HubSource:
    """Return a data set that ``save_to_disk`` wrote; of several splits ``ingestion.hub_split``.

    Raises:
        DataError: It is damaged, has not the split, or the optional dependency is missing.
    """
    library = _library()
    try:
        dataset = library.load_from_disk(str(folder))
    except Exception as error:  # of a damaged folder: all kinds
        raise DataError(
            f"ingestion.source={str(folder)!r} cannot be read as a saved Hugging Face data set: "
            f"{_first_line(error)}"
        ) from error
    if not isinstance(dataset, library.DatasetDict):
        return HubSource(dataset, folder.name, options)
    if options.hub_split not in dataset:
        raise DataError(
            f"ingestion.hub_split={options.hub_split!r}: {str(folder)!r} has the splits "
            f"{', '.join(dataset)}."
        )
    name = f"{folder.name}/{options.hub_split}"
    return HubSource(dataset[options.hub_split], name, options)


def _library() -> ModuleType:
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            "Hugging Face data sets need an optional dependency: pip install lct_pipeline[hub]"
        ) from error
    return datasets


def _caches(library: ModuleType) -> tuple[str, ...]:
    """Return where the library and the hub's client keep what they download."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return str(library.config.HF_DATASETS_CACHE), HF_HUB_CACHE


def _choose_image(features: Any, name: str, options: SourceOptions) -> str:
    library = _library()
    images = [
        column
        for column, feature in features.items()
        if isinstance(feature, library.Image)
        or getattr(feature, "dtype", None) in {"binary", "large_binary"}
    ]
    return choose_image_column(name, images, list(features), options.image_column)


def _choose_label(features: Any, name: str, options: SourceOptions) -> str | None:
    labelled = [
        column
        for column, feature in features.items()
        if re.match(r"u?int|bool|(large_)?string", str(getattr(feature, "dtype", "")))
    ]
    refuse_unknown_label_column(name, labelled, options)
    return options.label_column if options.labels == "column" else None


def _without_decoding(dataset: Any, image: str, label: str | None) -> Any:
    """Return the columns that are needed, images as the bytes of their files."""
    library = _library()
    rows = dataset.with_format(None).select_columns(
        [image, *([label] if label else [])]
    )
    if isinstance(rows.features[image], library.Image):
        return rows.cast_column(image, library.Image(decode=False))
    return rows


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
