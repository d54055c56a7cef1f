"""Labels of images: from their folders, from beside them, a dataset.json, or a .csv."""

from __future__ import annotations

import json
import logging
import posixpath
import re
from collections.abc import Callable, Container, Iterable, Sequence
from pathlib import PurePosixPath

from lct_pipeline.datasets.sources.base import (
    MEBIBYTE,
    RefusedEntryError,
    SourceOptions,
    folder_of,
)
from lct_pipeline.datasets.sources.csv_labels import labels_from_csv
from lct_pipeline.errors import DataError

logger = logging.getLogger(__name__)

LONGEST_LABEL = 500  # characters; a longer text is no class

Labels = list[str | None]

# of EDM's and StyleGAN's data sets: {"labels": [[<name>, <class>], ...]}, or null
LISTING = "dataset.json"
LARGEST_LISTING = 64 * MEBIBYTE  # 1.5 million images

_SPLIT = re.compile(r"(train|val|test|dev|eval)", re.IGNORECASE)  # begins its name


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
    return shared(labels_from_csv(names, options))


def folder_labels(names: Sequence[str], source: str) -> Labels:
    """Return the folder that each entry lies in.

    Raises:
        DataError: It is not clear which folder is the class: one name is that of folders in several
            others, but splits, or a folder with images lies in another.
    """
    labels = shared(map(folder_of, names))
    folders = {PurePosixPath(folder) for folder in set(map(posixpath.dirname, names))}
    above: dict[str, PurePosixPath] = {}
    for folder in sorted(folders):
        parts = (part for part in folder.parent.parts if not _SPLIT.match(part))
        rest = PurePosixPath(*parts)
        other = above.setdefault(folder.name, rest)
        nested = next((f for f in folder.parents if f.name and f in folders), None)
        if folder.name and (nested or other != rest):
            also = nested or other / folder.name
            raise DataError(
                f"ingestion.source={source!r} has images in {str(also)!r} and in {str(folder)!r}: "
                "which folder is the class? Give ingestion.labels=none or a .csv, or name folders "
                "otherwise."
            )
    return labels


def listing_of(files: Container[str], images: Sequence[str]) -> str | None:
    """Return the ``dataset.json`` of a folder that all images lie in, None where there is none."""
    folders = {posixpath.dirname(name) for name in images}
    if not folders:
        return None
    top = PurePosixPath(posixpath.commonpath(folders) if "" not in folders else "")
    names = (str(folder / LISTING) for folder in (top, *top.parents))
    return next((name for name in names if name in files), None)


def _listed_labels(
    listing: str, content: bytes, names: Sequence[str], source: str
) -> Labels | None:
    """Return the labels that a ``dataset.json`` gives; None where it is of another kind.

    Vectors are no classes: where labels are such, or null, there are none.

    Args:
        listing: Its name, in the folder from which it names images.
        content: Its bytes.
        names: Of the images.
        source: For messages.

    Raises:
        DataError: It is damaged, or names none of the images.
    """
    try:
        found = json.loads(content)
        pairs = found["labels"] if isinstance(found, dict) else {}
        known = {str(n).replace("\\", "/"): c for n, c in dict(pairs or {}).items()}
    except KeyError:
        return None
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(
            f"{listing} of ingestion.source={source!r} is no list of labels ({error}). Remove it, "
            "or give ingestion.labels=none or a .csv."
        ) from error
    if not isinstance(found, dict):
        return None
    start = len(listing) - len(LISTING)
    classes = [known.get(name[start:]) for name in names]
    if known and classes.count(None) == len(names):
        raise DataError(
            f"{listing} of ingestion.source={source!r} names none of the images: it has "
            f"{next(iter(known))!r}, the source {names[0]!r}."
        )
    return shared(str(c) if isinstance(c, int | str) else None for c in classes)


def own_labels(
    listing: str | None,
    read: Callable[[str], bytes],
    names: Sequence[str],
    source: str,
    options: SourceOptions,
) -> Labels:
    """Return the labels of a ``dataset.json``, else the folders that images lie in.

    Raises:
        DataError: What there is cannot be used.
    """
    if options.labels != "folders":
        return [None] * len(names)
    if listing is not None:
        try:
            content = read(listing)
        except RefusedEntryError as error:
            raise DataError(f"{listing} of {source}: {error}.") from error
        labels = _listed_labels(listing, content, names, source)
        if labels is not None:
            return labels
    return folder_labels(names, source)


def mention_unused(source: str, columns: Iterable[str], options: SourceOptions) -> None:
    """Say which columns might be labels where labels are not asked for by a column."""
    found = ", ".join(columns)
    if found and options.labels == "folders":
        logger.info(
            "%s: of its columns, these are not used: %s. Labels are taken of one with "
            "ingestion.labels=column and ingestion.label_column=<its name>.",
            source,
            found,
        )


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


def refuse_csv(source: str, options: SourceOptions) -> None:
    """Raise DataError where labels are to come from a .csv and entries have no names."""
    if options.labels not in {"folders", "column", "none"}:
        raise DataError(
            f"ingestion.labels={options.labels!r}: the images in ingestion.source={source!r} have "
            "no file names that a .csv could list. Give column (ingestion.label_column) or none."
        )
