"""Images in the rows of Parquet files, read a few rows at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from lct_pipeline.datasets.sources.base import (
    MEBIBYTE,
    ImageSource,
    RawImage,
    SourceOptions,
    digest_of,
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

_ROWS_AT_A_TIME = 16


@dataclass(frozen=True)
class _File:
    """A Parquet file: how its rows are called, and where in them image and label are."""

    name: str
    path: Path
    num_rows: int
    image_column: str
    label_column: str | None
    class_names: list[str] | None


class TableSource(ImageSource):
    """The rows of Parquet files with a column of image bytes, in the order of the files.

    The column is binary, or the struct of bytes and path that Hugging Face writes. It is read page
    by page and a few rows at a time, so memory does not grow with the size of row groups.

    Args:
        paths: The files by their names, which name the rows that have no path.
        options: Which columns, and how labels are given.

    Raises:
        DataError: A file is damaged, or has not the columns.
    """

    def __init__(self, paths: dict[str, Path], options: SourceOptions) -> None:
        self._options = options
        self._files = [_describe(name, path, options) for name, path in paths.items()]
        self.fingerprint = digest_of(
            f"{file.name}:{stamp(file.path)}:{file.num_rows}" for file in self._files
        )

    def __len__(self) -> int:
        """Number of rows."""
        return sum(file.num_rows for file in self._files)

    def fingerprint_of(self, start: int, stop: int) -> str:
        """Return what changes when one of the files that these rows are in does."""
        parts = []
        for file in self._files:
            rows = range(max(start, 0), min(stop, file.num_rows))
            if rows:
                where = f"{rows.start}:{rows.stop}"
                parts.append(f"{file.name}:{stamp(file.path)}:{where}")
            start, stop = start - file.num_rows, stop - file.num_rows
        return digest_of(parts)

    def read(self, start: int, stop: int) -> Iterator[RawImage]:
        """Yield the rows' images; row groups before ``start`` are not read."""
        for file in self._files:
            if start < file.num_rows and stop > 0:
                for number, row in _read_rows(file, max(start, 0), stop):
                    yield self._entry(file, number, row)
            start, stop = start - file.num_rows, stop - file.num_rows

    def _entry(self, file: _File, number: int, row: dict[str, Any]) -> RawImage:
        name, content, _ = split_image(row[file.image_column], f"{file.name}[{number}]")
        value = row[file.label_column] if file.label_column else None
        return entry(name, content, label_of(value, file.class_names), self._options)


def _describe(name: str, path: Path, options: SourceOptions) -> _File:
    refuse_csv(name, options)
    with _open(path) as table:
        schema, num_rows = table.schema_arrow, table.metadata.num_rows
        kinds = {field.name: field.type for field in schema}
        labelled = [column for column, kind in kinds.items() if _holds_labels(kind)]
        refuse_unknown_label_column(name, labelled, options)
        images = [column for column, kind in kinds.items() if _holds_images(kind)]
        image = choose_image_column(name, images, list(kinds), options.image_column)
        label = options.label_column if options.labels == "column" else None
        return _File(name, path, num_rows, image, label, _class_names(schema, label))


def _holds_images(kind: pa.DataType) -> bool:
    """Return whether a column is of bytes, or of structs with bytes."""
    if types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _holds_images(
            kind.field("bytes").type
        )
    return types.is_binary(kind) or types.is_large_binary(kind)


def _holds_labels(kind: pa.DataType) -> bool:
    tests = (types.is_integer, types.is_boolean, types.is_string, types.is_large_string)
    return types.is_dictionary(kind) or any(test(kind) for test in tests)


def _class_names(schema: pa.Schema, column: str | None) -> list[str] | None:
    """Return the names of classes that Hugging Face writes beside a table, None without them."""
    about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    feature = about.get("info", {}).get("features", {}).get(column, {})
    return feature.get("names")


@contextmanager
def _open(path: Path) -> Iterator[pq.ParquetFile]:
    """Yield a Parquet file whose columns are read through a buffer of one mebibyte.

    Raises:
        DataError: It is damaged or cut short.
    """
    try:
        with pq.ParquetFile(path, buffer_size=MEBIBYTE, pre_buffer=False) as table:
            yield table
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read as a Parquet file ({error}): it is damaged or cut short. Copy "
            "or download it again."
        ) from error


def _read_rows(
    file: _File, start: int, stop: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the rows from ``start`` to ``stop`` with their numbers."""
    columns = [file.image_column, *([file.label_column] if file.label_column else [])]
    with _open(file.path) as table:
        groups, number = _groups_from(table, start)
        batches = table.iter_batches(
            _ROWS_AT_A_TIME, row_groups=groups, columns=columns, use_threads=False
        )
        for batch in batches:
            for row in batch.to_pylist():
                if number >= stop:
                    return
                if number >= start:
                    yield number, row
                number += 1


def _groups_from(table: pq.ParquetFile, start: int) -> tuple[list[int], int]:
    """Return the row groups from that of row ``start`` on, and the number of their first row."""
    first = 0
    for group in range(table.num_row_groups):
        num_rows = table.metadata.row_group(group).num_rows
        if first + num_rows > start:
            return list(range(group, table.num_row_groups)), first
        first += num_rows
    return [], first
