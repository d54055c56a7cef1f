"""Labels of images: from their folders, from beside them, or from a .csv."""

from __future__ import annotations

import csv
import logging
import posixpath
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from lct_pipeline.datasets.sources.base import SUFFIXES, SourceOptions
from lct_pipeline.errors import DataError
from lct_pipeline.given_files import regular_file

logger = logging.getLogger(__name__)

LONGEST_LABEL = 500  # characters; a longer text is no class

Labels = list[str | None]


def shared(labels: Iterable[str | None]) -> Labels:
    """Return a label or None for each entry, every text once in memory."""
    known: dict[str | None, str | None] = {}
    return [known.setdefault(label, label) for label in labels]


def choose_labels(
    names: Sequence[str], own: Iterable[str | None], options: SourceOptions
) -> Labels:
    """Return the labels of named entries.

    Args:
        names: Relative names of the entries.
        own: What the source itself says of each, by its folder or otherwise.
        options: ``labels`` is ``none``, a .csv, or leaves it to the source.

    Raises:
        DataError: The .csv cannot be used.
    """
    if options.labels == "none" or not names:
        return [None] * len(names)
    if options.labels in {"folders", "column"}:
        return shared(own)
    return _labels_from_csv(names, options)


def refuse_column(source: str, options: SourceOptions) -> None:
    """Raise DataError where labels are to come from a column and there is no table."""
    if options.labels == "column":
        raise DataError(
            f"ingestion.labels=column: ingestion.source={source!r} has no columns. Give folders, "
            "none, or a .csv of image names and labels."
        )


def refuse_image_column(source: str, options: SourceOptions) -> None:
    """Raise DataError where the images are to come from a column and there is none."""
    if options.column_of_images is not None and not options.shared:
        raise DataError(
            f"ingestion.image_column={options.image_column!r} has no effect on ingestion.source="
            f"{source!r}, which has images alone: leave it null."
        )


def mention_unused(source: str, columns: Iterable[str], options: SourceOptions) -> None:
    """Say which columns might be labels where labels are not asked for by a column."""
    found = ", ".join(columns)
    if found and options.labels == "folders":
        logger.info(
            "Columns of %s that are not used: %s. ingestion.labels=column takes labels of one.",
            *(source, found),
        )


def refuse_csv(source: str, options: SourceOptions) -> None:
    """Raise DataError where labels are to come from a .csv and entries have no names."""
    if options.labels not in {"folders", "column", "none"}:
        raise DataError(
            f"ingestion.labels={options.labels!r}: the images in ingestion.source={source!r} have "
            "no file names that a .csv could list. Give column (ingestion.label_column) or none."
        )


def _labels_from_csv(names: Sequence[str], options: SourceOptions) -> Labels:
    """Match whole names, base names, or base names without suffix: by which most are found."""
    rows = _read_csv(Path(options.labels).expanduser(), options)
    keys: tuple[Callable[[str], str], ...] = (str, posixpath.basename, _stem)
    key = max(keys, key=lambda key: len({*map(key, names)} & {*map(key, rows)}))
    labels = _match(names, rows, key, options)
    if any(labels):
        return labels
    raise DataError(
        f"ingestion.labels={options.labels!r} names none of the images: it has for example "
        f"{next(iter(rows), None)!r}, the source {names[0]!r}."
    )


def _match(
    names: Sequence[str],
    rows: dict[str, str],
    key: Callable[[str], str],
    options: SourceOptions,
) -> Labels:
    """Return the label of each name.

    Raises:
        DataError: A key stands for several images or labels.
    """
    labels: dict[str, str] = {}
    counts = Counter(map(key, names))
    for name, label in rows.items():
        known, number = labels.setdefault(key(name), label), counts[key(name)]
        if number > 1 or (number and known != label):
            raise DataError(
                f"ingestion.labels={options.labels!r} has {name!r}, which may be several images or "
                "have several labels: give names with their folders."
            )
    return shared(labels.get(key(name)) for name in names)


def _stem(name: str) -> str:
    """Return the base name without an image's suffix."""
    base = posixpath.basename(name)
    return base.rpartition(".")[0] if base.lower().endswith(SUFFIXES) else base


def _read_csv(path: Path, options: SourceOptions) -> dict[str, str]:
    if path.suffix.lower() != ".csv" or not path.exists():
        raise DataError(
            f"ingestion.labels={options.labels!r} is none of folders, column and none, and there "
            "is no .csv file of that name."
        )
    try:
        with regular_file(path).open(newline="", encoding="utf-8-sig") as file:
            return _rows_by_name(csv.DictReader(file), options)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"ingestion.labels={options.labels!r} cannot be read as UTF-8 text of comma separated "
            f"values: {error}."
        ) from error


def _rows_by_name(
    reader: csv.DictReader[str], options: SourceOptions
) -> dict[str, str]:
    """Return name to label; an empty label is none."""
    columns = list(reader.fieldnames or [])
    others = (column for column in columns if column != options.label_column)
    image_column = options.image_column or next(others, "")
    for column in (image_column, options.label_column):
        if column not in columns:
            raise DataError(
                f"ingestion.labels={options.labels!r} has no column {column!r}; there are: "
                f"{', '.join(columns)}. Set ingestion.image_column and ingestion.label_column."
            )
    rows: dict[str, str] = {}
    for row in reader:
        name, label = row[image_column] or "", row[options.label_column]
        if label and rows.setdefault(name, label) != label:
            raise DataError(
                f"ingestion.labels={options.labels!r} has {name!r} with two labels, "
                f"{rows[name]!r} and {label!r}."
            )
    return rows
