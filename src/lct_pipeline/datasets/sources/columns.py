"""Columns of a table that hold images and labels, Parquet or Hugging Face."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lct_pipeline.datasets.sources.base import (
    RawImage,
    RefusedEntryError,
    SourceOptions,
    refuse_large,
)
from lct_pipeline.datasets.sources.labels import LONGEST_LABEL
from lct_pipeline.datasets.sources.names import folder_of, readable
from lct_pipeline.errors import DataError


def choose_image_column(
    source: str, candidates: Sequence[str], columns: Sequence[str], given: str | None
) -> str:
    """Return the column of images.

    Args:
        source: Of which table, for the message.
        candidates: The columns that could hold images.
        columns: All columns.
        given: ``ingestion.image_column``; None for the only candidate.

    Raises:
        DataError: The given one is no candidate, or there is not exactly one.
    """
    if given is not None and given not in candidates:
        raise DataError(
            f"ingestion.image_column={given!r}: {source} has no such column of image bytes; its "
            f"columns are: {', '.join(columns)}."
        )
    if given is None and len(candidates) != 1:
        raise DataError(
            f"{source} has {len(candidates)} columns that could be images "
            f"({', '.join(candidates) or 'none holds bytes'}) of: {', '.join(columns)}. Set "
            "ingestion.image_column."
        )
    return given or candidates[0]


def refuse_unknown_label_column(
    source: str, labelled: Sequence[str], options: SourceOptions
) -> None:
    """Raise DataError where labels are asked for in a column that has none.

    Args:
        source: Of which table, for the message.
        labelled: The columns of whole numbers, texts and truth values.
        options: What is asked for.
    """
    if options.labels == "column" and options.label_column not in labelled:
        raise DataError(
            f"ingestion.label_column={options.label_column!r}: {source} has no such column of "
            f"texts or whole numbers; there are: {', '.join(labelled) or 'none'}. Or set "
            "ingestion.labels=none."
        )


def label_of(value: Any, class_names: Sequence[str] | None) -> str | None:
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


def split_image(cell: Any, default_name: str) -> tuple[str, bytes | None, str | None]:
    """Return name, bytes and path of a cell: bytes, or ``{"bytes": ..., "path": ...}``.

    The name is the path where there is one; what it leads to is not opened.
    """
    if not isinstance(cell, dict):
        return default_name, cell, None
    path = cell.get("path")
    return readable(path) if path else default_name, cell.get("bytes"), path


def entry(
    name: str, content: bytes | None, label: str | None, options: SourceOptions
) -> RawImage:
    """Return a row's image; one without bytes, or with too many, has a problem."""
    if options.labels == "folders":
        label = folder_of(name)
    try:
        if content is None:
            raise RefusedEntryError("its row holds no bytes")
        refuse_large(len(content), options.max_mib)
    except RefusedEntryError as problem:
        return RawImage(name, b"", label, str(problem))
    return RawImage(name, content, label)
