"""Labels that files have by themselves: those of a ``dataset.json``, or the folders they lie in."""

from __future__ import annotations

import json
import posixpath
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import PurePosixPath

from lct_pipeline.datasets.sources.base import RefusedEntryError, folder_of
from lct_pipeline.errors import DataError

# of EDM's and StyleGAN's data sets: {"labels": [[<name>, <class>], ...]}, or null
LISTING = "dataset.json"

_SPLIT = re.compile(r"(train|val|test|dev|eval)", re.IGNORECASE)  # begins its name
_DAMAGE = (
    RefusedEntryError,
    OSError,
    ValueError,
    TypeError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


def own_labels(
    names: Sequence[str],
    files: Iterable[str],
    read: Callable[[str], bytes],
    source: str,
) -> Iterator[str | None]:
    """Yield the labels of a ``dataset.json``, else the folders that images lie in.

    Args:
        names: Of the images.
        files: Names of all files, of which one may be the list.
        read: Returns the bytes of a file.
        source: For messages.

    Raises:
        DataError: What there is cannot be used.
    """
    listings = (name for name in files if posixpath.basename(name) == LISTING)
    listing = min(listings, key=len, default=None)
    labels = None if listing is None else _listed(names, listing, read, source)
    yield from _folders(names, source) if labels is None else labels


def _listed(
    names: Sequence[str], listing: str, read: Callable[[str], bytes], source: str
) -> list[str | None] | None:
    """Return the labels of a list, vectors being none; None where it is one of something else."""
    place = f"{listing} of ingestion.source={source!r}"
    try:
        about = json.loads(read(listing))
        if not isinstance(about, dict) or "labels" not in about:
            return None
        pairs = dict(about["labels"] or ())
    except _DAMAGE as error:
        raise DataError(
            f"{place} is no list of labels ({error}). Remove it, or give ingestion.labels=none or "
            "a .csv."
        ) from error
    start = listing[: -len(LISTING)]
    known = {start + str(name).replace("\\", "/"): pairs[name] for name in pairs}
    if known and known.keys().isdisjoint(names):
        raise DataError(
            f"{place} names none of the images: it has {next(iter(known))!r}, the source "
            f"{names[0]!r}."
        )
    classes = map(known.get, names)
    return [str(c) if isinstance(c, int | str) else None for c in classes]


def _folders(names: Sequence[str], source: str) -> Iterator[str | None]:
    """Yield the folder that each image lies in.

    Raises:
        DataError: It is not clear which folder is the class: but for those of splits, one name is
            that of folders in several others, or a folder with images lies in another.
    """
    folders = [PurePosixPath(name) for name in {*map(posixpath.dirname, names)}]
    parts = ((p for p in folder.parts if not _SPLIT.match(p)) for folder in folders)
    classes = {PurePosixPath(*path) for path in parts} - {PurePosixPath()}
    by_name: dict[str, PurePosixPath] = {}
    for path in sorted(classes):
        also = {*path.parents, by_name.setdefault(path.name, path)} & classes - {path}
        if also:
            raise DataError(
                f"ingestion.source={source!r} has images in {str(also.pop())!r} and {str(path)!r}: "
                "which folder is the class? Give ingestion.labels=none or a .csv, or name folders "
                "otherwise."
            )
    yield from map(folder_of, names)
