"""Images of Hugging Face data sets: of the hub, or saved by ``save_to_disk``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from lct_pipeline.datasets.sources.base import SourceOptions, digest_of, stamp
from lct_pipeline.datasets.sources.tables import ROWS_AT_A_TIME, Table, TableSource
from lct_pipeline.errors import DataError
from lct_pipeline.given_files import check_folder

PREFIX = "hf://datasets/"

_ADDRESS = re.compile(
    r"hf://datasets/(?P<id>[\w.-]+(/[\w.-]+)?)(@(?P<revision>[\w./-]+))?"
)
_SAVED = ("state.json", "dataset_dict.json")  # what `save_to_disk` writes


def open_hub(address: str, options: SourceOptions) -> TableSource:
    """Return the split ``ingestion.hub_split`` of a data set of the hub, downloaded once.

    Its rows may name files that the library or the hub's client have downloaded.

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
    from huggingface_hub.constants import HF_HUB_CACHE

    name = f"{address.removeprefix(PREFIX)}/{options.hub_split}"
    downloads = (str(library.config.HF_DATASETS_CACHE), HF_HUB_CACHE)
    return TableSource([_table(dataset, name)], options, downloads)


def is_saved_dataset(folder: Path) -> bool:
    """Return whether ``save_to_disk`` wrote a folder."""
    return any((folder / name).exists() for name in _SAVED)


def open_saved(folder: Path, options: SourceOptions) -> TableSource:
    """Return a data set that ``save_to_disk`` wrote; of several splits ``ingestion.hub_split``.

    Raises:
        DataError: It is damaged, has not the split, or the optional dependency is missing.
    """
    library = _library()
    check_folder(folder)
    try:
        dataset = library.load_from_disk(str(folder))
    except Exception as error:  # of a damaged folder: all kinds
        raise DataError(
            f"ingestion.source={str(folder)!r} cannot be read as a saved Hugging Face data set: "
            f"{_first_line(error)}"
        ) from error
    if not isinstance(dataset, library.DatasetDict):
        return TableSource([_table(dataset, folder.name)], options)
    if options.hub_split not in dataset:
        raise DataError(
            f"ingestion.hub_split={options.hub_split!r}: {str(folder)!r} has the splits "
            f"{', '.join(dataset)}."
        )
    name = f"{folder.name}/{options.hub_split}"
    return TableSource([_table(dataset[options.hub_split], name)], options)


def _library() -> ModuleType:
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            "Hugging Face data sets need an optional dependency: pip install lct_pipeline[hub]"
        ) from error
    return datasets


def _table(dataset: Any, name: str) -> Table:
    """Return a ``datasets.Dataset``, which its library maps and does not decode."""
    schema = dataset.features.arrow_schema
    files = [Path(file["filename"]) for file in dataset.cache_files]
    stamps = (f"{file.name}:{stamp(file)}" for file in files)
    digest = digest_of([str(dataset.features), *stamps])
    return Table(name, len(dataset), schema, digest, partial(_read_rows, dataset))


def _read_rows(
    dataset: Any, columns: list[str], start: int, stop: int
) -> Iterator[dict[str, Any]]:
    rows = dataset.with_format("arrow").select_columns(columns)
    for begin in range(start, stop, ROWS_AT_A_TIME):
        yield from rows[begin : min(begin + ROWS_AT_A_TIME, stop)].to_pylist()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
