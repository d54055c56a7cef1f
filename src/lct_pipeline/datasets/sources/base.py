"""What every source of images is: a fixed order, a fingerprint, and a stream from any place.

A source knows at most names and places when it is opened. What is wrong with one entry is told in
that entry; what is wrong with the source as a whole is a DataError.
"""

from __future__ import annotations

import hashlib
import ntpath
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Protocol

import numpy as np

MEBIBYTE = 2**20

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")

LONGEST_NAME = 500  # characters; every one is a row of the manifest


class RefusedEntryError(Exception):
    """An entry is not read, or not to its end; the message is the reason."""


@dataclass(frozen=True)
class SourceOptions:
    """How a source is read, apart from where it is; see ``parameters_ingestion.yml``.

    What has no effect is refused, unless the options are ``shared`` by sources of several kinds.
    """

    labels: str
    image_column: str | None
    label_column: str
    hub_split: str
    max_mib: int
    shared: bool = False

    @property
    def column_of_images(self) -> str | None:
        """Return ``image_column`` where it is of the source, not of a .csv of labels."""
        is_of_csv = self.labels not in {"folders", "column", "none"}
        return None if is_of_csv else self.image_column


@dataclass(frozen=True)
class RawImage:
    """One entry of a source.

    Attributes:
        name: Its name in the source.
        content: The bytes of a file, or pixels, uint8: grey ``(H, W)`` or RGB ``(H, W, 3)``. No
            bytes where there is a problem.
        label: Its class, None where it has none.
        problem: Why it was not read, None where it was.
    """

    name: str
    content: bytes | np.ndarray
    label: str | None
    problem: str | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the content, which fixes the image's split."""
        if isinstance(self.content, bytes):
            return hashlib.sha256(self.content).hexdigest()
        return hashlib.sha256(np.ascontiguousarray(self.content).data).hexdigest()


class ImageSource(Protocol):
    """A series of images in a fixed order, read one at a time.

    Attributes:
        fingerprint: Changes when an image, its name, its label or their order does.
    """

    fingerprint: str

    def fingerprint_of(self, start: int, stop: int) -> str:
        """Return what changes when one of the entries from ``start`` to ``stop`` does.

        A source that does not know when its parts change returns the fingerprint of all of it.
        """
        return self.fingerprint

    def __len__(self) -> int:
        """Number of entries."""
        ...

    def read(self, start: int, stop: int) -> Iterator[RawImage]:
        """Yield the entries from ``start`` to ``stop``, or to the end if there are fewer."""
        ...


def entry(name: str, label: str | None, read: Callable[[], bytes]) -> RawImage:
    """Return the entry with the bytes that ``read`` returns, or the reason why it refuses them."""
    try:
        return RawImage(name, read(), label)
    except RefusedEntryError as problem:
        return RawImage(name, b"", label, str(problem))


def digest_of(parts: Iterable[str]) -> str:
    """Return the SHA-256 of a series of texts."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(f"{part}\n".encode("utf-8", "surrogatepass"))
    return sha.hexdigest()


def stamp(path: str | os.PathLike[str]) -> str:
    """Return size and time of change of a file, ``unreadable`` for a link to nothing."""
    try:
        status = os.stat(path)
    except OSError:
        return "unreadable"
    return f"{status.st_size}:{status.st_mtime_ns}"


def refuse_large(num_bytes: int, max_mib: int) -> None:
    """Raise RefusedEntryError where an entry is larger than ``ingestion.max_mib``."""
    if num_bytes > max_mib * MEBIBYTE:
        size = f"{num_bytes / MEBIBYTE:.1f} MiB"
        raise RefusedEntryError(f"{size}, more than ingestion.max_mib={max_mib}")


def read_bounded(file: IO[bytes], max_mib: int) -> bytes:
    """Return a file's bytes; raise RefusedEntryError, having read one too many, if it is large."""
    content = file.read(max_mib * MEBIBYTE + 1)
    refuse_large(len(content), max_mib)
    return content


def is_image_name(name: str) -> bool:
    """Return whether a file with this name is taken for an image."""
    return name.lower().endswith(SUFFIXES) and not is_hidden(name)


def is_hidden(name: str) -> bool:
    """Return whether a part of a name begins with a dot, or is what macOS adds to archives."""
    return any(
        part.startswith((".", "__MACOSX")) and part not in {".", ".."}
        for part in name.split("/")
    )


def refused_name(name: str) -> str | None:
    """Return why a member of an archive is refused by its name alone, or None.

    Its name leads outside of any folder, or has more than 500 characters.
    """
    if len(name) > LONGEST_NAME:
        return f"its name has {len(name)} characters, more than {LONGEST_NAME}"
    drive, path = ntpath.splitdrive(name)  # / and \ separate: stricter than Unix
    if drive or path.startswith(("/", "\\")):
        return "its name is absolute, or begins with a drive letter"
    if ".." in re.split(r"[/\\]", path):
        return "its name leads out of the archive by '..'"
    return None


def folder_of(name: str) -> str | None:
    """Return the folder that an entry lies in, None at the top."""
    folder, _, _ = name.rpartition("/")
    return folder.rpartition("/")[2] or None


def readable(name: str) -> str:
    r"""Return a name that can be written: bytes that are no UTF-8 become ``\udc..``, and cut."""
    return name.encode("utf-8", "backslashreplace").decode()[:LONGEST_NAME]
