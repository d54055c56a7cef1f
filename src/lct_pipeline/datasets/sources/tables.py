"""Images in the rows of tables, read a few rows at a time: Parquet files or Hugging Face's."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from lct_pipeline.datasets.sources.base import (
    MEBIBYTE,
    ImageSource,
    RawImage,
    RefusedEntryError,
    SourceOptions,
    digest_of,
    entry,
    folder_of,
    read_bounded,
    readable,
    refuse_large,
    stamp,
)
from lct_pipeline.datasets.sources.labels import (
    LONGEST_LABEL,
    mention_unused,
    refuse_csv,
)
from lct_pipeline.errors import DataError

ROWS_AT_A_TIME = 16


@dataclass(frozen=True)
class Table:
    """A table with a column of images.

    Attributes:
        name: What its rows without a path are called after.
        num_rows: How many there are.
        schema: Its columns, and the names of classes that Hugging Face writes beside them.
        stamp: Changes when the table does.
        read: Columns, first row and the one behind the last -> rows.
    """

    name: str
    num_rows: int
    schema: pa.Schema
    stamp: str
    read: Callable[[list[str], int, int], Iterator[dict[str, Any]]]


class TableSource(ImageSource):
    """The rows of tables with a column of image bytes, in the order of the tables.

    The column is binary, or the struct of bytes and path that Hugging Face writes.

    Args:
        tables: At least one.
        options: Which columns, and how labels are given.
        folders: A row without bytes may name a file in one of these. No other file is opened.

    Raises:
        DataError: A table has not the columns.
    """

    def __init__(
        self,
        tables: Sequence[Table],
        options: SourceOptions,
        folders: Sequence[str] = (),
    ) -> None:
        refuse_csv(tables[0].name, options)
        self._tables, self._options = tables, options
        self._folders = [os.path.realpath(folder) for folder in folders]
        self._images = [_image_column(table, options) for table in tables]
        self._label = options.label_column if options.labels == "column" else None
        features = (_features(table.schema) for table in tables)
        self._classes = [f.get(self._label or "", {}).get("names") for f in features]
        if any(names != self._classes[0] for names in self._classes):
            raise DataError(
                f"ingestion.label_column={self._label!r}: the tables of {tables[0].name} and those "
                "beside it have other names of classes. Give them one by one, or the same names."
            )
        could_be = (f.name for f in tables[0].schema if _holds_labels(f.type))
        mention_unused(tables[0].name, could_be, options)
        self.fingerprint = self.fingerprint_of(0, len(self))

    def __len__(self) -> int:
        """Number of rows."""
        return sum(table.num_rows for table in self._tables)

    def fingerprint_of(self, start: int, stop: int) -> str:
        """Return what changes when one of the tables that these rows are in does."""
        return digest_of(
            f"{self._tables[n].name}:{self._tables[n].stamp}:{rows.start}:{rows.stop}"
            for n, rows in self._parts(start, stop)
        )

    def read(self, start: int, stop: int) -> Iterator[RawImage]:
        """Yield the rows' images; row groups before ``start`` are not read."""
        for n, numbers in self._parts(start, stop):
            columns = [self._images[n], *([self._label] if self._label else [])]
            rows = self._tables[n].read(columns, numbers.start, numbers.stop)
            for number, row in zip(numbers, rows, strict=False):
                yield self._entry(n, number, row)

    def _parts(self, start: int, stop: int) -> Iterator[tuple[int, range]]:
        """Yield which tables rows are in, and their numbers in each."""
        for n, table in enumerate(self._tables):
            if rows := range(max(start, 0), min(stop, table.num_rows)):
                yield n, rows
            start, stop = start - table.num_rows, stop - table.num_rows

    def _entry(self, n: int, number: int, row: dict[str, Any]) -> RawImage:
        cell = row[self._images[n]]
        content, path = cell, None
        if isinstance(cell, dict):
            content, path = cell.get("bytes"), cell.get("path")
        name = readable(path) if path else f"{self._tables[n].name}[{number}]"
        if self._options.labels == "folders":
            label = folder_of(name) if path else None
        else:
            label = _label_of(row.get(self._label or ""), self._classes[n])
        return entry(name, label, partial(self._content, content, path))

    def _content(self, content: bytes | None, path: str | None) -> bytes:
        """Return the bytes of a row, or those of the file that it names."""
        if content is not None:
            refuse_large(len(content), self._options.max_mib)
            return content
        if path is None:
            raise RefusedEntryError("its row holds no bytes")
        target = os.path.realpath(path)
        if not any(os.path.commonpath([target, f]) == f for f in self._folders):
            raise RefusedEntryError(
                "its row holds no bytes, and names a file that is not part of the data set"
            )
        if not stat.S_ISREG(os.stat(target).st_mode):
            raise RefusedEntryError("its row names a file that is not a regular one")
        with open(target, "rb") as file:
            return read_bounded(file, self._options.max_mib)


def open_parquet(paths: dict[str, Path], options: SourceOptions) -> TableSource:
    """Return the rows of Parquet files.

    They are read page by page, so memory does not grow with the size of row groups.

    Args:
        paths: The files by their names; ``""`` for that of the file itself.
        options: Which columns, and how labels are given.

    Raises:
        DataError: A file is damaged, or has not the columns.
    """
    tables = []
    for name, path in paths.items():
        with _open(path) as file:
            num_rows, schema = file.metadata.num_rows, file.schema_arrow
        read = partial(_read_parquet, path)
        tables.append(Table(name or path.name, num_rows, schema, stamp(path), read))
    return TableSource(tables, options)


@contextmanager
def _open(path: Path) -> Iterator[pq.ParquetFile]:
    """Yield a Parquet file whose columns are read through a buffer of one mebibyte.

    Raises:
        DataError: It is damaged or cut short.
    """
    try:
        with pq.ParquetFile(path, buffer_size=MEBIBYTE, pre_buffer=False) as file:
            yield file
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read as a Parquet file ({error}): it is damaged or cut short. Copy "
            "or download it again."
        ) from error


def _read_parquet(
    path: Path, columns: list[str], start: int, stop: int
) -> Iterator[dict[str, Any]]:
    with _open(path) as file:
        groups = range(file.num_row_groups)
        sizes = [file.metadata.row_group(group).num_rows for group in groups]
        first = 0  # row of the first group that is read
        while first + sizes[0] <= start:
            first += sizes.pop(0)
        batches = file.iter_batches(
            ROWS_AT_A_TIME,
            row_groups=groups[-len(sizes) :],
            columns=columns,
            use_threads=False,
        )
        rows = chain.from_iterable(batch.to_pylist() for batch in batches)
        yield from islice(rows, start - first, stop - first)


def _image_column(table: Table, options: SourceOptions) -> str:
    """Return the column of images.

    Raises:
        DataError: The one that is asked for, or the column of labels, is not there, or there is
            not exactly one.
    """
    given, columns = options.image_column, table.schema.names
    labels = [field.name for field in table.schema if _holds_labels(field.type)]
    if options.labels == "column" and options.label_column not in labels:
        raise DataError(
            f"ingestion.label_column={options.label_column!r}: {table.name} has no such column of "
            f"texts or whole numbers; there are: {', '.join(labels) or 'none'}. Or set "
            "ingestion.labels=none."
        )
    images = [field.name for field in table.schema if _holds_images(field.type)]
    if given is not None and given not in images:
        raise DataError(
            f"ingestion.image_column={given!r}: {table.name} has no such column of image bytes; "
            f"its columns are: {', '.join(columns)}."
        )
    features = _features(table.schema)  # sound and video look like images
    marked = [c for c in images if features.get(c, {}).get("_type") == "Image"]
    candidates = marked or images
    if given is None and len(candidates) != 1:
        raise DataError(
            f"{table.name} has {len(candidates)} columns that could be images "
            f"({', '.join(candidates) or 'none holds bytes'}) of: {', '.join(columns)}. Set "
            "ingestion.image_column."
        )
    return given or candidates[0]


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


def _features(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """Return what Hugging Face writes of its columns beside a table, nothing without that."""
    try:
        about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = about["info"]["features"].items()
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}
    return {name: about for name, about in features if isinstance(about, dict)}


def _label_of(value: Any, class_names: Sequence[str] | None) -> str | None:
    """Return a cell as a label: by name where classes have names; -1 and null are none.

    Raises:
        DataError: It is no class: without a name, or a long text.
    """
    if value is None or (class_names and value == -1):
        return None
    if class_names and not 0 <= value < len(class_names):
        raise DataError(
            f"ingestion.label_column: {value} of {len(class_names)} classes."
        )
    label = class_names[value] if class_names else str(value)
    if len(label) > LONGEST_LABEL:
        raise DataError(
            f"ingestion.label_column holds texts, not classes: {label[:60]!r}... has {len(label)} "
            "characters. Set ingestion.labels=none."
        )
    return label
