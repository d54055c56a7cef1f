"""The directory at the end of a zip, read entry by entry.

The standard library keeps 700 bytes of every entry before it gives the first, and refuses an
archive as a whole where one entry is odd. Sections are those of PKWARE's APPNOTE.TXT 6.3.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

_END = struct.Struct("<4s8xLLH")  # 4.3.16: bytes, offset, length of the comment
_END_64 = struct.Struct("<4s36xQQ")  # 4.3.14: bytes, offset
_LOCATOR_64 = struct.Struct("<4s16x")  # 4.3.15
_ENTRY = struct.Struct("<4s4xHH4xLLLHHH4xLL")  # 4.3.12
_EXTRA = struct.Struct("<HH")  # 4.5.1: kind, length

_IN_UTF_8 = 0x800  # bit of the flags, 4.4.4; without it names are in code page 437
_IN_EXTRA_FIELD = 0xFFFFFFFF  # 4.5.3: the value lies there, with 64 bits
_OF_64_BITS = 1  # kind of that field


class DamagedZipError(Exception):
    """The directory is missing or cut short; the message is the reason."""


@dataclass(frozen=True)
class ZipMember:
    """A file in a zip, as the directory describes it."""

    name: str
    flags: int
    method: int
    crc: int
    compressed_size: int
    size: int
    offset: int  # of its local header
    is_regular: bool  # no link and no device, as far as the archive says


def read_directory(file: IO[bytes]) -> Iterator[ZipMember]:
    """Yield the members of a zip that are not folders, in the order of its directory.

    Raises:
        DamagedZipError: The directory is missing or cut short.
    """
    begin, end, shift = _find_directory(file)
    file.seek(begin)
    while file.tell() < end:
        member = _read_entry(file, shift)
        if not member.name.endswith("/"):
            yield member


def _find_directory(file: IO[bytes]) -> tuple[int, int, int]:
    """Return where the directory begins and ends, and how many bytes precede the archive."""
    tail_at = max(0, file.seek(0, 2) - _END.size - 0xFFFF)  # of the longest comment
    file.seek(tail_at)
    tail = file.read()
    at = tail.rfind(b"PK\5\6", 0, len(tail) - _END.size + 4)
    if at < 0:
        raise DamagedZipError("no directory at its end")
    _, num_bytes, offset, _ = _END.unpack_from(tail, at)
    end = tail_at + at
    end_64 = end - _LOCATOR_64.size - _END_64.size
    if end_64 >= 0:
        file.seek(end_64)
        found, is_there = _END_64.unpack(file.read(_END_64.size)), file.read(4)
        if (found[0], is_there) == (b"PK\6\6", b"PK\6\7"):
            (_, num_bytes, offset), end = found, end_64
    if num_bytes + offset > end:
        raise DamagedZipError("its directory is not where its end says")
    return end - num_bytes, end, end - num_bytes - offset


def _read_entry(file: IO[bytes], shift: int) -> ZipMember:
    header = file.read(_ENTRY.size)
    if len(header) < _ENTRY.size or not header.startswith(b"PK\1\2"):
        raise DamagedZipError(f"no entry of its directory at byte {file.tell()}")
    _, flags, method, crc, *sizes, name_size, extra_size, comment_size, mode, offset = (
        _ENTRY.unpack(header)
    )
    name, extra = file.read(name_size), file.read(extra_size)
    file.seek(comment_size, 1)
    size, compressed, offset = _with_extra_field([sizes[1], sizes[0], offset], extra)
    return ZipMember(
        name=name.decode("utf-8" if flags & _IN_UTF_8 else "cp437", "surrogateescape"),
        flags=flags,
        method=method,
        crc=crc,
        compressed_size=compressed,
        size=size,
        offset=offset + shift,
        is_regular=stat.S_IFMT(mode >> 16) in (0, stat.S_IFREG),  # 0: not of Unix
    )


def _with_extra_field(values: list[int], extra: bytes) -> list[int]:
    """Return size, compressed size and offset, of 64 bits where the extra field has them."""
    position = 0
    while position + _EXTRA.size <= len(extra):
        kind, length = _EXTRA.unpack_from(extra, position)
        position += _EXTRA.size
        if kind == _OF_64_BITS:
            field = extra[position : position + length]
            wide = struct.iter_unpack("<Q", field[: len(field) // 8 * 8])
            return [
                next(wide, (value,))[0] if value == _IN_EXTRA_FIELD else value
                for value in values
            ]
        position += length
    return values
