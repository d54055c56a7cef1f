"""The directory of a zip, against the standard library's reading of it."""

import io
import random
import zipfile

import pytest

from lct_pipeline.datasets.sources.zip_directory import DamagedZipError, read_directory

NAMES = ["a.png", "folder/b.jpg", "bücher/☃.png", "é.png", "folder/", "x" * 300]


def written(comment: bytes = b"", comments: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = comment
        for number, name in enumerate(NAMES):
            member = zipfile.ZipInfo(name)
            member.comment = comments
            member.extra = b"\x99\x99\4\0more" if number % 2 else b""
            archive.writestr(member, bytes(100 * number))
    return buffer.getvalue()


def assert_agrees_with_the_standard_library(content: bytes) -> None:
    found = list(read_directory(io.BytesIO(content)))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        expected = [info for info in archive.infolist() if not info.is_dir()]
    assert len(found) == len(expected) == len(NAMES) - 1
    for member, info in zip(found, expected, strict=True):
        assert member.name == info.filename
        assert (member.flags, member.method) == (info.flag_bits, info.compress_type)
        sizes = (info.CRC, info.compress_size, info.file_size, info.header_offset)
        assert (member.crc, member.compressed_size, member.size, member.offset) == sizes
        assert member.is_regular


@pytest.mark.parametrize(
    "comment", [b"", b"of the archive", b"PK\5\6" * 20 + b"x" * 60]
)
@pytest.mark.parametrize("comments", [b"", b"of a member"])
@pytest.mark.parametrize("before", [b"", b"#!/bin/sh\n" * 100])
def test_archives_with_comments_and_behind_other_data(
    comment: bytes, comments: bytes, before: bytes
) -> None:
    content = before + written(comment, comments)
    if comment.startswith(b"PK"):
        with pytest.raises((DamagedZipError, zipfile.BadZipFile)):
            assert_agrees_with_the_standard_library(content)
    else:
        assert_agrees_with_the_standard_library(content)


@pytest.mark.parametrize("before", [b"", b"before" * 10])
def test_archives_of_64_bits(monkeypatch: pytest.MonkeyPatch, before: bytes) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 50)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 2)
    content = written()
    assert b"PK\6\6" in content and b"PK\6\7" in content
    assert content.count(b"\xff\xff\xff\xff") > 4
    assert_agrees_with_the_standard_library(before + content)


def test_a_name_that_is_no_utf_8_does_not_stop_the_others() -> None:
    content = written().replace("bücher".encode(), b"b\xff\xfecher")
    with pytest.raises(ValueError, match="utf-8"):
        zipfile.ZipFile(io.BytesIO(content))
    names = [member.name for member in read_directory(io.BytesIO(content))]
    assert names[2] == "b\udcff\udcfecher/☃.png"
    assert len(names) == len(NAMES) - 1


def test_a_truncated_archive_is_damaged() -> None:
    content = written()
    for end in range(0, len(content) - 1, 7):
        with pytest.raises(DamagedZipError):
            list(read_directory(io.BytesIO(content[:end])))


@pytest.mark.parametrize("limit", [50, 2**31])
def test_damaged_bytes_never_raise_anything_else(
    monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", limit)
    content, rng = written(), random.Random(0)
    directory = content.index(b"PK\1\2")
    for _ in range(2000):
        damaged = bytearray(content)
        for _ in range(rng.randint(1, 8)):
            damaged[rng.randrange(directory, len(damaged))] = rng.choice([0, 1, 0xFF])
        try:
            members = list(read_directory(io.BytesIO(bytes(damaged))))
        except DamagedZipError:
            continue
        assert len(members) <= len(NAMES)
