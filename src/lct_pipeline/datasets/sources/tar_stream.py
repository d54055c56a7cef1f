"""A tar file as a stream that is read forwards, decompressed where it is, in bounded memory."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from lct_pipeline.datasets.sources.base import MEBIBYTE
from lct_pipeline.errors import DataError

LARGEST_HEADER = MEBIBYTE  # of a member: long names and extended attributes
_LZMA_MEMORY = 256 * MEBIBYTE  # four times what the strongest preset of xz needs

_DAMAGE = (
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
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
            start = file.read(6)
            file.seek(0)
            yield _decompressed(file, start)
    except (*_DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk; that of a decompressor has no number
        raise DataError(
            f"{path} cannot be read as a tar file ({error}): it is damaged or cut short. Copy or "
            "download it again."
        ) from error


def _decompressed(file: IO[bytes], start: bytes) -> IO[bytes]:
    if start.startswith(b"\x1f\x8b"):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=file))
    if start.startswith(b"BZh"):
        return bz2.BZ2File(file)
    if start.startswith(b"\xfd7zXZ\0"):
        return io.BufferedReader(_XzReader(file))
    return file


class _XzReader(io.RawIOBase):
    """An .xz file, decompressed with bounded memory, which the standard library's reader has not.

    It can be sought forwards only.
    """

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file
        self._decoder = lzma.LZMADecompressor(memlimit=_LZMA_MEMORY)
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        content = b""
        while not content and not self._decoder.eof:
            more = self._file.read(2**16) if self._decoder.needs_input else b""
            if self._decoder.needs_input and not more:
                raise EOFError("the compressed data end too early")
            content = self._decoder.decompress(more, len(buffer))
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or offset < self._position:
            raise io.UnsupportedOperation("an .xz file is sought forwards only")
        skipped = memoryview(bytearray(2**16))
        while (left := offset - self._position) and self.readinto(skipped[:left]):
            pass
        return self._position


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
