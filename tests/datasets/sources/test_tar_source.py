"""Images in tar files and WebDataset shards, whoever packed them."""

import gzip
import io
import json
import lzma
import random
import tarfile
import tracemalloc
from pathlib import Path

import pytest
from made_sources import (
    FILES,
    LABELS,
    NAMES,
    fingerprint,
    labels,
    options,
    problems,
    read,
    write_folder,
    write_tar,
)

from lct_pipeline.datasets.sources import open_source
from lct_pipeline.errors import DataError

SUFFIXES = [".tar", ".tar.gz", ".tar.bz2", ".tar.xz"]
IN_ORDER = [name for name in FILES if name in NAMES]  # of the archive, not of the names
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


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_it_holds_what_its_folder_holds(tmp_path: Path, suffix: str) -> None:
    folder = write_folder(tmp_path / "images", FILES)
    path = write_tar(tmp_path / f"images{suffix}", FILES)
    found = read(path)
    assert [raw.name for raw in found] == IN_ORDER
    assert sorted(found, key=lambda raw: raw.name) == read(folder)
    for start in range(6):
        assert read(path, start, start + 2) == found[start : start + 2]
    assert dict(zip(IN_ORDER, labels(path), strict=True)) == dict(
        zip(NAMES, LABELS, strict=True)
    )


def test_compression_is_told_from_the_content(tmp_path: Path) -> None:
    packed = write_tar(tmp_path / "a.tar.gz", FILES)
    path = packed.rename(tmp_path / "misnamed.tar")
    assert len(read(path)) == len(NAMES)


def test_large_members_are_read_wherever_reading_begins(tmp_path: Path) -> None:
    files = {f"{n:02d}.png": bytes([n]) * (n * 30_011) for n in range(12)}
    for suffix in SUFFIXES:
        path = write_tar(tmp_path / f"images{suffix}", files)
        assert [raw.content for raw in read(path)] == list(files.values())
        assert read(path, 9, 10)[0].content == files["09.png"]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("folders", ["7", "cat", "cat", "3", "sub.dir"]),
        ("column", [None, "manx", "manx", "pug", None]),
        ("none", [None] * 5),
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
def test_a_json_without_a_label_gives_none(tmp_path: Path, content: bytes) -> None:
    path = write_tar(tmp_path / "train.tar", {"0.jpg": b"0", "0.json": content})
    assert labels(path) == [None]


def test_a_cls_that_is_a_text_of_pages_is_no_label(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "train.tar", {"0.jpg": b"0", "0.cls": b"x" * 501})
    assert labels(path) == [None]


def test_shards_follow_each_other(tmp_path: Path) -> None:
    for number in range(3):
        files = {f"{number}{n}.jpg": b"%d%d" % (number, n) for n in range(4)}
        write_tar(tmp_path / "shards" / f"train-{number:03d}.tar", files, mtime=number)
        files_of_shard = list(files.values())
    found = read(tmp_path / "shards")
    assert [raw.content for raw in found] == [
        b"%d%d" % (shard, n) for shard in range(3) for n in range(4)
    ]
    assert found[5].name == "train-001.tar/11.jpg"
    assert read(tmp_path / "shards", 3, 9) == found[3:9]
    assert files_of_shard == [raw.content for raw in found[8:]]


@pytest.mark.parametrize(
    "name",
    ["../escaped.png", "a/../../b.png", "/etc/absolute.png", "C:/windows.png"],
)
def test_names_that_lead_outside_are_refused(tmp_path: Path, name: str) -> None:
    path = write_tar(tmp_path / "images.tar", {**FILES, name: b"bad"})
    assert list(problems(path)) == [name]
    assert len(read(path)) == len(NAMES) + 1


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a link"),
        (tarfile.CHRTYPE, "not a regular file"),
        (tarfile.FIFOTYPE, "not a regular file"),
        (tarfile.GNUTYPE_SPARSE, "a sparse file"),
    ],
)
def test_what_is_no_plain_file_is_refused(
    tmp_path: Path, kind: bytes, reason: str
) -> None:
    path = tmp_path / "images.tar"
    write_tar(path, {"odd.png": b""}, type=kind, linkname="/etc/passwd")
    with tarfile.open(path, "a") as archive:
        member = tarfile.TarInfo("good.png")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"good"))
    assert problems(path) == {"odd.png": reason}
    assert read(path)[1].content == b"good"


def test_a_large_member_is_refused_and_what_follows_is_read(tmp_path: Path) -> None:
    files = {"bomb.png": bytes(64 * 2**20), "good.png": b"good"}
    path = write_tar(tmp_path / "images.tar.gz", files)
    tracemalloc.start()
    found = read(path, max_mib=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found[0].problem == "64.0 MiB, more than ingestion.max_mib=1"
    assert found[1].content == b"good"
    assert peak < 4 * 2**20


def test_a_header_that_claims_gigabytes_is_not_read(tmp_path: Path) -> None:
    """A long name of GNU tar is read in one piece by the standard library."""
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 2**28
    path = tmp_path / "images.tar.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(member.tobuf(tarfile.GNU_FORMAT))
        for _ in range(2**8):
            file.write(bytes(2**20))
    tracemalloc.start()
    with pytest.raises(DataError, match=r"images\.tar\.gz cannot be read.*268435456"):
        open_source(str(path), options())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 2**20


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


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_one_cut_short_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    rng = random.Random(0)
    files = {f"{n}.png": rng.randbytes(5000) for n in range(20)}
    path = write_tar(tmp_path / f"images{suffix}", files)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(DataError, match=r"images\.tar.*damaged or cut short.*again"):
        open_source(str(path), options())


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "images.tar", FILES)
    content = bytearray(path.read_bytes())
    content[5 * 1024 + 150] ^= 0xFF  # the checksum of the sixth member
    path.write_bytes(content)
    with pytest.raises(DataError, match="no header at byte 5120, but other data"):
        open_source(str(path), options())


def test_an_xz_that_needs_a_huge_dictionary_is_refused(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 2**29}]
    path = tmp_path / "images.tar.xz"
    plain = write_tar(tmp_path / "images.tar", FILES).read_bytes()
    path.write_bytes(lzma.compress(plain, filters=filters))
    with pytest.raises(DataError, match=r"[Mm]emory usage limit"):
        open_source(str(path), options())


def test_the_fingerprint_follows_names_content_and_labels(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "train.tar", SAMPLES)
    first = fingerprint(path)
    assert fingerprint(path) == first
    assert fingerprint(path, labels="none") != first
    write_tar(path, {**SAMPLES, "000.cls": b"8\n"})
    assert fingerprint(path) != first
    assert fingerprint(write_tar(tmp_path / "2.tar", SAMPLES, mtime=5)) != first


def test_other_members_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "lct_pipeline")
    read(write_tar(tmp_path / "train.tar", SAMPLES))
    assert "1 members of train.tar are no images" in caplog.text
