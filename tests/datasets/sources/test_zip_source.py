"""Images in a zip, whoever packed it."""

import stat
import struct
import tracemalloc
import zipfile
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
    write_zip,
)

from lct_pipeline.datasets.sources import open_source
from lct_pipeline.errors import DataError

KINDS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2]


@pytest.mark.parametrize("kind", KINDS)
def test_it_holds_what_its_folder_holds(tmp_path: Path, kind: int) -> None:
    folder = write_folder(tmp_path / "images", FILES)
    path = write_zip(tmp_path / "images.ZIP", FILES, kind)
    assert read(path) == read(folder)
    assert read(path, 1, 3) == read(folder, 1, 3)
    assert labels(path) == LABELS
    assert [image.digest for image in read(path)] == [i.digest for i in read(folder)]


def test_the_fingerprint_changes_with_a_member_only(tmp_path: Path) -> None:
    first = fingerprint(write_zip(tmp_path / "1.zip", FILES))
    changed = {**FILES, "b/2.jpg": b"B two"}
    renamed = {name.replace("top", "pot"): content for name, content in FILES.items()}
    assert fingerprint(write_zip(tmp_path / "2.zip", dict(FILES))) == first
    assert fingerprint(write_zip(tmp_path / "3.zip", changed)) != first
    assert fingerprint(write_zip(tmp_path / "4.zip", renamed)) != first


def test_one_cut_in_half_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "half.zip", FILES)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"half\.zip' cannot be read as a zip.*again"):
        open_source(str(path), options())


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


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../../escaped.png", "'..'"),
        ("a/../../b.png", "'..'"),
        ("/etc/absolute.png", "absolute"),
        ("\\\\host\\share.png", "absolute"),
        ("a\\..\\b.png", "'..'"),
        ("C:/windows.png", "drive letter"),
        ("c:relative.png", "drive letter"),
        ("x" * 501 + ".png", "505 characters"),
    ],
)
def test_names_that_lead_outside_are_refused(
    tmp_path: Path, name: str, reason: str
) -> None:
    path = write_zip(tmp_path / "images.zip", {**FILES, name: b"bad"})
    found = problems(path)
    assert list(found) == [name[:500]]
    assert reason in found[name[:500]]
    assert len(read(path)) == len(NAMES) + 1


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_links_and_devices_are_refused(tmp_path: Path, kind: int) -> None:
    path = write_zip(tmp_path / "images.zip", FILES)
    member = zipfile.ZipInfo("link.png")
    member.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(member, "/etc/passwd")
    assert problems(path) == {"link.png": "not a regular file"}


def test_members_of_another_method_or_encrypted_are_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "images.zip", FILES)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_LZMA) as archive:
        archive.writestr("packed.png", b"packed otherwise")
    patch_directory(path, "top.PNG", 8, b"\1\0")
    assert problems(path) == {
        "packed.png": "compressed by another method than deflate and bzip2",
        "top.PNG": "encrypted",
    }


def test_large_members_are_refused_before_they_are_inflated(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "images.zip", {**FILES, "bomb.png": bytes(64 * 2**20)})
    tracemalloc.start()
    found = problems(path, max_mib=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == {"bomb.png": "64.0 MiB, more than ingestion.max_mib=1"}
    assert peak < 4 * 2**20


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
    tracemalloc.start()
    found = problems(path, max_mib=100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reason in found["liar.png"]
    assert kind == zipfile.ZIP_STORED or peak < 4 * 2**20


def test_members_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    """A small file of many such members inflates to terabytes."""
    path = write_zip(tmp_path / "images.zip", FILES)
    with zipfile.ZipFile(path) as archive:
        begin = archive.getinfo("b/2.jpg").header_offset
    patch_directory(path, "b/10.jpeg", 42, struct.pack("<I", begin + 1))
    assert "shares bytes" in " ".join(problems(path).values())


def test_other_members_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "lct_pipeline")
    read(write_zip(tmp_path / "images.zip", FILES))
    assert "members without an image's suffix are ignored" in caplog.text
