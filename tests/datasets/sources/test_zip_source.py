"""Images in a zip, whoever packed it."""

import random
import stat
import struct
import zipfile
from pathlib import Path

import pytest
from made_sources import (
    FILES,
    NAMES,
    labels,
    options,
    problems,
    read,
    traced,
    write_zip,
)

from lct_pipeline.datasets.sources import open_source
from lct_pipeline.errors import DataError

KINDS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]


def patch(path: Path, name: str, at: int, value: bytes) -> None:
    """Overwrite bytes of a member's local header, counted from its begin."""
    with zipfile.ZipFile(path) as archive:
        begin = archive.getinfo(name).header_offset + at
    content = bytearray(path.read_bytes())
    content[begin : begin + len(value)] = value
    path.write_bytes(content)


def patch_directory(path: Path, name: str, at: int, value: bytes) -> None:
    """Overwrite bytes of a member's entry in the central directory."""
    content = bytearray(path.read_bytes())
    begin = content.rindex(b"PK\1\2", 0, content.rindex(name.encode())) + at
    content[begin : begin + len(value)] = value
    path.write_bytes(content)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", ["stream", "checksum", "header"])
def test_a_damaged_member_is_a_problem_and_the_rest_is_read(
    tmp_path: Path, damage: str, kind: int
) -> None:
    path = write_zip(tmp_path / "images.zip", FILES, kind)
    if damage == "stream":
        patch(path, "b/10.jpeg", 30 + len("b/10.jpeg"), b"\xff\xff")
    elif damage == "checksum":
        patch_directory(path, "b/10.jpeg", 16, b"\1\2\3\4")
    else:
        patch(path, "b/10.jpeg", 0, b"\xff")
    assert "damaged in its archive" in problems(path)["b/10.jpeg"]
    contents = {image.name: image.content for image in read(path)}
    assert contents == {**{name: FILES[name] for name in NAMES}, "b/10.jpeg": b""}


def test_what_must_not_be_read_is_a_problem_and_the_rest_is_read(
    tmp_path: Path,
) -> None:
    path = write_zip(tmp_path / "images.zip", {**FILES, "../escaped.png": b"bad"})
    with zipfile.ZipFile(path, "a") as archive:
        for kind in (stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO):
            member = zipfile.ZipInfo(f"{kind}.png")
            member.external_attr = (kind | 0o777) << 16
            archive.writestr(member, "/etc/passwd")
        archive.writestr("packed.png", b"otherwise", zipfile.ZIP_LZMA)
    patch_directory(path, "top.PNG", 8, b"\1\0")
    assert problems(path) == {
        "../escaped.png": "its name leads out of the archive by '..'",
        "40960.png": "not a regular file",
        "8192.png": "not a regular file",
        "4096.png": "not a regular file",
        "packed.png": "compressed by another method than deflate",
        "top.PNG": "encrypted",
    }
    assert len(read(path)) == len(NAMES) + 5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("claimed", "reason"), [(1000, "more bytes"), (2**20 - 1, "fewer bytes")]
)
def test_a_claimed_size_that_is_wrong_is_not_exceeded(
    tmp_path: Path, kind: int, claimed: int, reason: str
) -> None:
    content = bytes(500_000) if reason == "fewer bytes" else bytes(64 * 2**20)
    path = write_zip(tmp_path / "images.zip", {**FILES, "liar.png": content}, kind)
    patch_directory(path, "liar.png", 24, struct.pack("<I", claimed))
    found, peak = traced(lambda: problems(path, max_mib=100))
    assert reason in found["liar.png"]
    assert kind == zipfile.ZIP_STORED or peak < 4


def test_members_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    """A small file of many such members inflates to terabytes."""
    path = write_zip(tmp_path / "images.zip", FILES)
    with zipfile.ZipFile(path) as archive:
        begin = archive.getinfo("b/2.jpg").header_offset
    patch_directory(path, "b/10.jpeg", 42, struct.pack("<I", begin + 1))
    assert "shares bytes" in " ".join(problems(path).values())


@pytest.mark.parametrize("before", [b"", b"#!/bin/sh\n" * 100])
def test_archives_of_64_bits_and_behind_other_data(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, before: bytes
) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 50)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 2)
    path = write_zip(tmp_path / "images.zip", {"bücher/☃.png": bytes(99), **FILES})
    assert b"PK\6\6" in path.read_bytes() and b"PK\6\7" in path.read_bytes()
    path.write_bytes(before + path.read_bytes())
    assert labels(path)[-2:] == ["bücher", None] and problems(path) == {}


@pytest.mark.parametrize("limit", [50, 2**31])
def test_damaged_bytes_are_told_and_never_raise_anything_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit: int
) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", limit)
    path = write_zip(tmp_path / "images.zip", {"bücher/☃.png": bytes(99), **FILES})
    content, rng = path.read_bytes(), random.Random(0)
    directory = content.index(b"PK\1\2")
    for _ in range(1000):
        damaged = bytearray(content)
        for _ in range(rng.randint(1, 6)):
            damaged[rng.randrange(directory, len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            list(open_source(str(path), options(labels="none")).read(0, 99))
        except DataError as error:
            assert "cannot be read as a zip" in str(error) or "no image" in str(error)
