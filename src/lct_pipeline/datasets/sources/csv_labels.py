"""Labels of images that a .csv lists by their names."""

from __future__ import annotations

import csv
import logging
import posixpath
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from lct_pipeline.datasets.sources.base import SUFFIXES, SourceOptions
from lct_pipeline.errors import DataError

logger = logging.getLogger(__name__)


def labels_from_csv(names: Sequence[str], options: SourceOptions) -> list[str | None]:
    """Match whole names, base names, or base names without suffix: by which most are found.

    Raises:
        DataError: The .csv cannot be used, or names stand for several labels or images.
    """
    rows = _read_csv(Path(options.labels).expanduser(), options)
    keys: tuple[Callable[[str], str], ...] = (str, posixpath.basename, _stem)
    key = max(keys, key=lambda key: len({*map(key, names)} & {*map(key, rows)}))
    labels = _match(names, rows, key, options)
    if labels.count(None) == len(names):
        raise DataError(
            f"ingestion.labels={options.labels!r} names none of the images: it has for example "
            f"{next(iter(rows), None)!r}, the source {names[0]!r}."
        )
    num_others = len({*map(key, rows)} - {*map(key, names)})
    if num_others:
        logger.info(
            "%s names %d images that are not there.", options.labels, num_others
        )
    return labels


def _match(
    names: Sequence[str],
    rows: dict[str, str],
    key: Callable[[str], str],
    options: SourceOptions,
) -> list[str | None]:
    """Return the label of each name.

    Raises:
        DataError: What is left of names stands for several labels, or several images.
    """
    labels: dict[str, str] = {}
    counts = Counter(map(key, names))
    for name, label in rows.items():
        known, number = labels.setdefault(key(name), label), counts[key(name)]
        if number > 1 or (number and known != label):
            raise DataError(
                f"ingestion.labels={options.labels!r} has {name!r}, which may be several "
                "images or have several labels: give names with their folders."
            )
    return [labels.get(key(name)) for name in names]


def _stem(name: str) -> str:
    """Return the base name without an image's suffix."""
    base = posixpath.basename(name)
    return base.rpartition(".")[0] if base.lower().endswith(SUFFIXES) else base


def _read_csv(path: Path, options: SourceOptions) -> dict[str, str]:
    if path.suffix.lower() != ".csv" or not path.is_file():
        raise DataError(
            f"ingestion.labels={options.labels!r} is none of folders, column and none, and there "
            "is no .csv file of that name."
        )
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
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
