"""Images in a zip, read member by member from the places that its directory names.

Reading follows PKWARE's APPNOTE.TXT 6.3: 4.3.7 (local header), 4.4.5 (compression method).
"""

from __future__ import annotations

import bz2
import logging
import struct
import zipfile
import zlib
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import numpy as np

from lct_pipeline.datasets.sources.base import (
    ImageSource,
    RawImage,
    RefusedEntryError,
    SourceOptions,
    digest_of,
    refuse_large,
)
from lct_pipeline.datasets.sources.labels import choose_labels, refuse_column
from lct_pipeline.datasets.sources.names import (
    Names,
    folder_of,
    is_image_name,
    readable,
    refused_name,
)
from lct_pipeline.datasets.sources.zip_directory import (
    DamagedZipError,
    ZipMember,
    read_directory,
)
from lct_pipeline.errors import DataError

logger = logging.getLogger(__name__)

_LOCAL_HEADER = struct.Struct("<26xHH")  # lengths of name and extra, which follow it
_ENCRYPTED = 1  # bit of the flags

_LARGEST = 2**61  # what an odd entry claims is not more than this
_FIELDS = (
    "offset",
    "compressed",
    "size",
    "crc",
    "method",
    "flags",
    "is_regular",
    "overlaps",
)
_MEMBER = np.dtype([(name, "i8") for name in _FIELDS])

# compressed content and the size that its member claims -> at most one byte more
_DECOMPRESS: dict[int, Callable[[bytes, int], bytes]] = {
    zipfile.ZIP_STORED: lambda data, size: data[: size + 1],
    zipfile.ZIP_DEFLATED: lambda data, size: zlib.decompressobj(-15).decompress(
        data, size + 1
    ),
    zipfile.ZIP_BZIP2: lambda data, size: bz2.BZ2Decompressor().decompress(
        data, size + 1
    ),
}


class ZipSource(ImageSource):
    """All image members of a zip, in the order of their names; folders are labels.

    Nothing is extracted, and a member is never inflated beyond the size that it claims.
    """

    def __init__(self, path: Path, options: SourceOptions) -> None:
        refuse_column(str(path), options)
        self._path, self._max_mib = path, options.max_mib
        self._names, self._members = _list_images(path)
        shown = Names(map(readable, self._names))
        self._labels = choose_labels(shown, map(folder_of, shown), options)
        known = zip(
            self._names, self._members["crc"], self._members["size"], strict=True
        )
        stamps = (f"{name}:{crc}:{size}" for name, crc, size in known)
        self.fingerprint = digest_of(stamps, self._labels.digest)

    def __len__(self) -> int:
        """Number of members."""
        return len(self._names)

    def read(self, start: int, stop: int) -> Iterator[RawImage]:
        """Yield the members' bytes."""
        with self._path.open("rb") as file:
            for number in range(start, min(stop, len(self))):
                name, label = readable(self._names[number]), self._labels[number]
                try:
                    content = self._content(file, number)
                    yield RawImage(name, content, label)
                except RefusedEntryError as problem:
                    yield RawImage(name, b"", label, str(problem))

    def _content(self, file: IO[bytes], number: int) -> bytes:
        member = self._members[number]
        self._refuse(self._names[number], member)
        stored, size = _stored(file, member), int(member["size"])
        try:
            content = _DECOMPRESS[int(member["method"])](stored, size)
        except (zlib.error, OSError) as error:
            raise RefusedEntryError(f"damaged in its archive: {error}") from error
        if len(content) != size:
            more_or_less = "more" if len(content) > size else "fewer"
            raise RefusedEntryError(f"{more_or_less} bytes than its archive claims")
        if zlib.crc32(content) != member["crc"]:
            raise RefusedEntryError("damaged in its archive: wrong checksum")
        return content

    def _refuse(self, name: str, member: np.void) -> None:
        """Raise RefusedEntryError for what is not read at all."""
        reasons = {
            "not a regular file": not member["is_regular"],
            "encrypted": member["flags"] & _ENCRYPTED,
            "it shares bytes with another member": member["overlaps"],
            "compressed by another method than deflate and bzip2": (
                member["method"] not in _DECOMPRESS
            ),
        }
        for reason in [
            refused_name(name),
            *(r for r, applies in reasons.items() if applies),
        ]:
            if reason is not None:
                raise RefusedEntryError(reason)
        refuse_large(int(member["size"]), self._max_mib)
        refuse_large(int(member["compressed"]), self._max_mib)


def _list_images(path: Path) -> tuple[Names, np.ndarray]:
    """Return names and members of the images, in the order of their names."""
    names, values = Names(), array("q")
    try:
        with path.open("rb") as file:
            for member in read_directory(file):
                names.append(member.name)
                values.extend(_values(member))
    except DamagedZipError as error:
        raise DataError(
            f"ingestion.source={str(path)!r} cannot be read as a zip ({error}): it is "
            "damaged or cut short. Copy or download it again."
        ) from error
    members = np.array(values, "i8").view(_MEMBER)
    _mark_overlaps(members)
    chosen = sorted(
        (number for number, name in enumerate(names) if is_image_name(name)),
        key=names.__getitem__,
    )
    if len(chosen) < len(names):
        num_others = len(names) - len(chosen)
        logger.info("%d members without an image's suffix are ignored.", num_others)
    return Names(names[number] for number in chosen), members[chosen]


def _values(member: ZipMember) -> tuple[int, ...]:
    """Return the values of ``_MEMBER``."""
    return (
        min(member.offset, _LARGEST),
        min(member.compressed_size, _LARGEST),
        min(member.size, _LARGEST),
        member.crc,
        member.method,
        member.flags,
        member.is_regular,
        False,
    )


def _mark_overlaps(members: np.ndarray) -> None:
    """Mark the members whose bytes reach into the next one: many small ones make a huge bomb."""
    order = np.argsort(members["offset"], kind="stable")
    end = members["offset"] + members["compressed"] + _LOCAL_HEADER.size
    members["overlaps"][order[:-1]] = end[order[:-1]] > members["offset"][order[1:]]


def _stored(file: IO[bytes], member: np.void) -> bytes:
    """Return a member's bytes as they are in the archive."""
    file.seek(max(0, int(member["offset"])))
    header = file.read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size or not header.startswith(b"PK\3\4"):
        raise RefusedEntryError("damaged in its archive: no header where it should be")
    file.seek(sum(_LOCAL_HEADER.unpack(header)), 1)
    return file.read(int(member["compressed"]))
