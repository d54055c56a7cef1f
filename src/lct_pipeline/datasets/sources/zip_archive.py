"""Images in a zip: its directory is the standard library's, the members are read from there.

They are read here because ``zipfile`` would keep 700 bytes of every member for as long as the
archive is open. Reading follows PKWARE's APPNOTE.TXT 6.3, 4.3.7 (local header).
"""

from __future__ import annotations

import logging
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np

from lct_pipeline.datasets.sources.base import (
    ImageSource,
    RawImage,
    RefusedEntryError,
    SourceOptions,
    digest_of,
    entry,
    is_image_name,
    read_bounded,
    readable,
    refuse_large,
    refused_name,
)
from lct_pipeline.datasets.sources.labels import choose_labels, refuse_column
from lct_pipeline.datasets.sources.own_labels import own_labels
from lct_pipeline.datasets.sources.samples import chosen_pictures
from lct_pipeline.errors import DataError

logger = logging.getLogger(__name__)

_LOCAL_HEADER = struct.Struct("<4s22xHH")  # lengths of name and extra, which follow it
_ENCRYPTED = 1  # bit of the flags
_LARGEST = 2**43  # bytes; what an odd entry claims is not more than this


class ZipSource(ImageSource):
    """All image members of a zip, in the order of their names.

    Labels are those of a ``dataset.json``, else the folders that images lie in.

    Nothing is extracted, and a member is never inflated beyond the size that it claims.
    """

    def __init__(self, path: Path, options: SourceOptions) -> None:
        refuse_column(str(path), options)
        self._path, self._max_mib = path, options.max_mib
        everything = _read_directory(path)
        members = [member for member in everything if is_image_name(member.filename)]
        if num_others := len(everything) - len(members):
            logger.info("%d members without an image's suffix are ignored.", num_others)
        members.sort(key=lambda member: member.filename)
        names = [readable(member.filename) for member in members]
        chosen = chosen_pictures(names, str(path), options)
        members, self._names = [members[n] for n in chosen], [names[n] for n in chosen]
        overlapping = _overlapping(everything)
        refusals = (_refusal(member, overlapping) for member in members)
        self._refused = {n: reason for n, reason in enumerate(refusals) if reason}
        self._places = np.array([_place(member) for member in members], "i8")
        files = (member.filename for member in everything)
        own = own_labels(self._names, files, self._listing, str(path))
        self._labels = choose_labels(self._names, own, options)
        stamps = (f"{m.filename}:{m.CRC}:{m.file_size}" for m in members)
        self.fingerprint = digest_of([*stamps, repr(self._labels)])

    def __len__(self) -> int:
        """Number of members."""
        return len(self._names)

    def read(self, start: int, stop: int) -> Iterator[RawImage]:
        """Yield the members' bytes."""
        for number in range(start, min(stop, len(self))):
            content = partial(self._content, number)
            yield entry(self._names[number], self._labels[number], content)

    def _listing(self, name: str) -> bytes:
        with zipfile.ZipFile(self._path) as archive, archive.open(name) as file:
            return read_bounded(file, self._max_mib)

    def _content(self, number: int) -> bytes:
        if number in self._refused:
            raise RefusedEntryError(self._refused[number])
        offset, compressed, size, checksum, method = self._places[number].tolist()
        refuse_large(max(size, compressed), self._max_mib)
        content = _stored(self._path, offset, compressed)
        if method == zipfile.ZIP_DEFLATED:
            try:
                content = zlib.decompressobj(-15).decompress(content, size + 1)
            except zlib.error as error:
                raise RefusedEntryError(f"damaged in its archive: {error}") from error
        if len(content) != size:
            more_or_less = "more" if len(content) > size else "fewer"
            raise RefusedEntryError(f"{more_or_less} bytes than its archive claims")
        if zlib.crc32(content) != checksum:
            raise RefusedEntryError("damaged in its archive: wrong checksum")
        return content


def _read_directory(path: Path) -> list[zipfile.ZipInfo]:
    """Return the members of a zip that are not folders.

    Raises:
        DataError: It is damaged or cut short.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return [member for member in archive.infolist() if not member.is_dir()]
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
        raise DataError(
            f"ingestion.source={str(path)!r} cannot be read as a zip ({error}): it is "
            "damaged or cut short. Copy or download it again."
        ) from error


def _place(member: zipfile.ZipInfo) -> list[int]:
    """Return where a member is and how it is stored."""
    sizes = member.header_offset, member.compress_size, member.file_size
    bounded = (max(0, min(value, _LARGEST)) for value in sizes)
    return [*bounded, member.CRC, member.compress_type]


def _overlapping(members: list[zipfile.ZipInfo]) -> set[int]:
    """Return the offsets of members that reach into the next: many small ones make a huge bomb.

    ``zipfile`` refuses them from 3.11.8 on, when it reads them.
    """
    offsets = sorted((m.header_offset, m.compress_size) for m in members)
    return {
        offset
        for (offset, size), (following, _) in pairwise(offsets)
        if offset + _LOCAL_HEADER.size + size > following
    }


def _refusal(member: zipfile.ZipInfo, overlapping: set[int]) -> str | None:
    """Return why a member is not read at all, or None."""
    kind = stat.S_IFMT(member.external_attr >> 16)  # 0: not of Unix
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    reasons = {
        "not a regular file": kind not in (0, stat.S_IFREG),
        "encrypted": member.flag_bits & _ENCRYPTED,
        "it shares bytes with another member": member.header_offset in overlapping,
        "compressed by another method than deflate": member.compress_type
        not in methods,
    }
    found = (reason for reason, applies in reasons.items() if applies)
    return refused_name(member.filename) or next(found, None)


def _stored(path: Path, offset: int, compressed: int) -> bytes:
    """Return a member's bytes as they are in the archive."""
    with path.open("rb") as file:
        file.seek(offset)
        header = file.read(_LOCAL_HEADER.size)
        if len(header) < _LOCAL_HEADER.size or not header.startswith(b"PK\3\4"):
            raise RefusedEntryError(
                "damaged in its archive: no header where it should be"
            )
        _, name_size, extra_size = _LOCAL_HEADER.unpack(header)
        file.seek(name_size + extra_size, 1)
        return file.read(compressed)
