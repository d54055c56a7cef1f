"""Results that are written in parts: they exist when the last part does.

A node that streams yields values; what it yields last is a :class:`Last`. With that the dataset
writes its index, so that ``exists()``, and with it ``kedro run --only-missing-outputs``, means
*complete*. Whatever is written after that without an end takes the index away again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from lct_pipeline.datasets.files import atomic_path

INDEX = "index.json"
T = TypeVar("T")


@dataclass(frozen=True)
class Last(Generic[T]):
    """The last value that a node yields for a dataset."""

    value: T


def opened(data: T | Last[T]) -> tuple[T, bool]:
    """Return a value that was yielded, and whether it is the last one."""
    return (data.value, True) if isinstance(data, Last) else (data, False)


def close_folder(folder: Path, names: Iterable[str]) -> None:
    """Write the index of a folder: it is complete with these files."""
    with atomic_path(folder / INDEX) as temporary:
        temporary.write_text(json.dumps({"files": sorted(names)}))


def open_folder(folder: Path) -> None:
    """Take the index away: something is written that is not the last."""
    (folder / INDEX).unlink(missing_ok=True)


def is_complete(folder: Path) -> bool:
    """Return whether a folder has its index and all files that it names."""
    try:
        files = json.loads((folder / INDEX).read_text())["files"]
    except FileNotFoundError:
        return False
    return all((folder / name).exists() for name in files)
