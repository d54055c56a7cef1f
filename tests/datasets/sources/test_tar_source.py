"""Images in tar files and WebDataset shards, whoever packed them."""

import gzip
import io
import json
import tarfile
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
    write_tar,
)

from lct_pipeline.datasets.sources import open_source
from lct_pipeline.errors import DataError

SUFFIXES = [".tar", ".tar.gz", ".tar.bz2"]
SAMPLES = {
    "000.jpg": b"zero",
    "000.cls": b"7\n",
    "001.json": json.dumps({"label": "cat", "breed": "manx"}).encode(),
    "001.jpg": b"one",
    "001.seg.png": b"its mask",
    "sub.dir/002.cls": b"3",
    "sub.dir/002.json": json.dumps({"label": "dog", "breed": "pug"}).encode(),
    "sub.dir/002.jpg": b"two",
    "sub.dir/003.jpg": b"three",
    "sub.dir/003.txt": b"a caption",
}


def test_compression_is_told_from_the_content(tmp_path: Path) -> None:
    packed = write_tar(tmp_path / "a.tar.gz", FILES)
    path = packed.rename(tmp_path / "misnamed.tar")
    assert len(read(path)) == len(NAMES)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_large_members_are_read_wherever_reading_begins(
    tmp_path: Path, suffix: str
) -> None:
    files = {f"{n:02d}.png": bytes([n]) * (n * 30_011) for n in range(12)}
    path = write_tar(tmp_path / f"images{suffix}", files)
    assert [raw.content for raw in read(path)] == list(files.values())
    assert read(path, 9, 10)[0].content == files["09.png"]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("folders", ["7", "cat", "3", None]),
        ("column", [None, "manx", "pug", None]),
        ("none", [None] * 4),
    ],
)
def test_labels_of_samples(
    tmp_path: Path, kind: str, expected: list[str | None]
) -> None:
    path = write_tar(tmp_path / "train.tar", SAMPLES)
    assert labels(path, labels=kind, label_column="breed") == expected


@pytest.mark.parametrize(
    "content", [b"{", b"[" * 100_000, b"\xff\xfe", b"[1]", b"{}", b'{"label": {}}']
)
def test_what_is_no_label_gives_none(tmp_path: Path, content: bytes) -> None:
    files = {"0.jpg": b"0", "0.json": content, "0.cls": b"x" * 501}
    assert labels(write_tar(tmp_path / "train.tar", files)) == [None]


def test_shards_follow_each_other(tmp_path: Path) -> None:
    contents = [b"%d%d" % (shard, n) for shard in range(3) for n in range(4)]
    for number in range(3):
        part = contents[4 * number : 4 * number + 4]
        files = {f"{content.decode()}.jpg": content for content in part}
        write_tar(tmp_path / "shards" / f"train-{number:03d}.tar", files)
    found = read(tmp_path / "shards")
    assert [raw.content for raw in found] == contents
    assert found[5].name == "train-001.tar/11.jpg"
    assert read(tmp_path / "shards", 3, 9) == found[3:9]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a link"),
        (tarfile.CHRTYPE, "not a regular file"),
        (tarfile.FIFOTYPE, "not a regular file"),
        (tarfile.GNUTYPE_SPARSE, "a sparse file"),
        (tarfile.REGTYPE, "its name leads out of the archive by '..'"),
    ],
)
def test_what_must_not_be_read_is_a_problem_and_the_rest_is_read(
    tmp_path: Path, kind: bytes, reason: str
) -> None:
    name = "../odd.png" if kind == tarfile.REGTYPE else "odd.png"
    path = tmp_path / "images.tar"
    write_tar(path, {name: b""}, type=kind, linkname="/etc/passwd")
    with tarfile.open(path, "a") as archive:
        member = tarfile.TarInfo("good.png")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"good"))
    assert problems(path) == {name: reason}
    assert read(path)[1].content == b"good"


def test_a_header_that_claims_gigabytes_is_not_read(tmp_path: Path) -> None:
    """A long name of GNU tar is read in one piece by the standard library."""
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 2**28
    path = tmp_path / "images.tar.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(member.tobuf(tarfile.GNU_FORMAT))
        for _ in range(2**8):
            file.write(bytes(2**20))

    def open_it() -> None:
        with pytest.raises(DataError, match=r"images\.tar\.gz cannot.*268435456"):
            open_source(str(path), options())

    assert traced(open_it)[1] < 4


def test_a_negative_size_is_not_followed_for_ever(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "images.tar", {"a.png": b"a" * 600, "b.png": b"b"})
    content = bytearray(path.read_bytes())
    content[1536 + 124 : 1536 + 136] = b"\xff" * 8 + (-2048).to_bytes(4, signed=True)
    header = bytes(content[1536:2048])
    checksum = sum(header[:148]) + sum(header[156:]) + 8 * ord(" ")
    content[1536 + 148 : 1536 + 156] = b"%06o\0 " % checksum
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as a tar"):
        open_source(str(path), options())


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "images.tar", FILES)
    content = bytearray(path.read_bytes())
    content[5 * 1024 + 150] ^= 0xFF  # the checksum of the sixth member
    path.write_bytes(content)
    with pytest.raises(DataError, match="no header at byte 5120, but other data"):
        open_source(str(path), options())
