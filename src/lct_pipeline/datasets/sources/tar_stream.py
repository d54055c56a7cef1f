"""A tar file as a stream that is read forwards, decompressed where it is, in bounded memory.

``tarfile`` reads the headers; what it would do with hostile ones is kept from it here: it reads a
long name of any size in one piece, follows a negative size for ever (until 3.11.14), and takes a
damaged header for the end. Gzip and bzip2 are known. An .xz asks for as much memory as it likes, so
none is opened.
"""

from __future__ import annotations

import bz2
import gzip
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from lct_pipeline.datasets.sources.base import MEBIBYTE
from lct_pipeline.errors import DataError

LARGEST_HEADER = MEBIBYTE  # of a member: long names and extended attributes

_DAMAGE = (
    tarfile.TarError,
    zlib.error,
    EOFError,
    ValueError,
    OverflowError,
    RecursionError,
)


@contextmanager
def open_tar(path: Path) -> Iterator[IO[bytes]]:
    """Yield the bytes of a tar file; what compression it has is told from its first bytes.

    Raises:
        DataError: It is damaged or cut short.
    """
    try:
        with path.open("rb") as file:
            start = file.read(3)
            file.seek(0)
            if start == b"BZh":
                yield bz2.BZ2File(file)
            elif start.startswith(b"\x1f\x8b"):
                yield cast("IO[bytes]", gzip.GzipFile(fileobj=file))
            else:
                yield file
    except (*_DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk; that of a decompressor has no number
        raise DataError(
            f"{path} cannot be read as a tar file ({error}): it is damaged or cut short. Copy or "
            "download it again."
        ) from error


def scan_tar(stream: IO[bytes]) -> Iterator[tarfile.TarInfo]:
    """Yield the members of a tar, each of which may be read before the next is asked for.

    No list of them is kept.

    Raises:
        tarfile.TarError: Headers are damaged, claim more than a mebibyte, or lead backwards.
    """
    reads = _BoundedReads(stream)
    archive = tarfile.TarFile(fileobj=cast("IO[bytes]", reads))
    last = -1
    while (member := archive.next()) is not None:
        # a negative size, which older Pythons follow for ever
        if member.offset <= last:
            raise tarfile.ReadError("a member begins before the one that it follows")
        last = member.offset
        yield member
        archive.members.clear()  # type: ignore[attr-defined]
    if reads.last.strip(b"\0"):  # tarfile takes a damaged header for the end
        raise tarfile.ReadError(f"no header at byte {archive.offset}, but other data")


class _BoundedReads:
    """A stream for tarfile, which reads headers of whatever size they claim in one piece."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.tell, self.seek = stream.tell, stream.seek
        self.last = b""

    def read(self, size: int) -> bytes:
        if not 0 <= size <= LARGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        self.last = self._stream.read(size)
        return self.last
