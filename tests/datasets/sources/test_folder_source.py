"""Images in a folder."""

import os
from pathlib import Path

import pytest
from made_sources import (
    FILES,
    NAMES,
    fingerprint,
    options,
    problems,
    read,
    write_folder,
)

from lct_pipeline.datasets.sources import open_source
from lct_pipeline.datasets.sources.base import RefusedEntryError, read_bounded
from lct_pipeline.datasets.sources.folder import files_below
from lct_pipeline.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "images", FILES)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "elsewhere", {"secret.png": b"secret"})


def test_a_folder_named_like_an_image_is_none(folder: Path) -> None:
    write_folder(folder, {"album.png/1.png": b"inside"})
    images = read(folder)
    assert [i.name for i in images] == [*NAMES[:1], "album.png/1.png", *NAMES[1:]]
    assert images[1].label == "album.png"


def test_a_link_inside_is_read_like_a_file(folder: Path) -> None:
    (folder / "b" / "3.jpg").symlink_to(folder / "a" / "noending")
    (folder.parent / "link").symlink_to(folder)  # the source itself may be one
    found = {image.name: image.content for image in read(folder.parent / "link")}
    assert found["b/3.jpg"] == FILES["a/noending"]


def test_links_that_lead_outside_are_never_read(folder: Path, elsewhere: Path) -> None:
    write_folder(folder.parent / "images-2", {"1.png": b"of the same beginning"})
    (folder / "absolute.png").symlink_to(elsewhere / "secret.png")
    (folder / "beside.png").symlink_to(folder.parent / "images-2" / "1.png")
    (folder / "b" / "relative.png").symlink_to("../../elsewhere/secret.png")
    (folder / "b" / "inner.png").symlink_to(folder / "absolute.png")
    (folder / "outside").symlink_to(elsewhere)
    (folder / "a" / "loop").symlink_to(folder)
    names = ["absolute.png", "b/inner.png", "b/relative.png", "beside.png", "outside"]
    reason = "a symbolic link that leads out of the folder"
    assert problems(folder) == dict.fromkeys(names, reason)
    assert len(read(folder)) == len(NAMES) + 5


def test_what_cannot_be_read_is_a_problem_and_not_waited_for(folder: Path) -> None:
    (folder / "gone.png").symlink_to(folder / "nothing.png")
    (folder / "circle.png").symlink_to(folder / "circle.png")
    os.mkfifo(folder / "pipe.png")
    found = problems(folder)
    assert "No such file" in found.pop("gone.png")
    assert "symbolic links" in found.pop("circle.png")
    assert found == {"pipe.png": "not a regular file"}


def test_a_large_file_is_refused_with_its_size(folder: Path) -> None:
    with (folder / "b" / "large.png").open("wb") as file:
        file.truncate(3 * 2**20)
    message = "3.0 MiB, more than ingestion.max_mib=2"
    assert problems(folder, max_mib=2) == {"b/large.png": message}
    assert problems(folder, max_mib=3) == {}


def test_a_file_that_says_nothing_of_its_size_is_read_up_to_the_limit() -> None:
    with open("/dev/zero", "rb") as endless, pytest.raises(RefusedEntryError):
        read_bounded(endless, max_mib=1)


def test_names_that_are_no_text_are_written_as_what_can_be(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a.png": b"a"})
    with open(os.fsencode(tmp_path) + b"/\xff.png", "wb") as file:
        file.write(b"odd")
    odd = read(tmp_path)[1]
    assert (odd.name, odd.content) == ("\\udcff.png", b"odd")


@pytest.mark.parametrize("change", ["touch", "content", "add", "remove", "rename"])
def test_the_fingerprint_changes_with(folder: Path, change: str) -> None:
    before, file = fingerprint(folder), folder / "b" / "2.jpg"
    (folder / "notes.md").write_text("about these images")
    assert fingerprint(folder) == before
    stat = file.stat()
    if change == "touch":
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))
    elif change == "content":
        file.write_bytes(b"longer than it was")
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    elif change == "add":
        (folder / "b" / "3.jpg").write_bytes(b"new")
    elif change == "remove":
        file.unlink()
    else:
        file.rename(folder / "b" / "3.jpg")
    assert fingerprint(folder) != before


def test_labels_of_a_column_are_refused(folder: Path) -> None:
    with pytest.raises(DataError, match=r"labels=column.*images' has no columns"):
        open_source(str(folder), options(labels="column"))


def test_files_of_a_kind_are_found_below_unless_they_lead_outside(
    folder: Path, elsewhere: Path
) -> None:
    write_folder(folder, {"2.tar": b"", "b/1.TAR": b"", ".hidden.tar": b""})
    assert list(files_below(folder, (".tar",))) == ["2.tar", "b/1.TAR"]
    (folder / "3.tar").symlink_to(elsewhere / "secret.png")
    with pytest.raises(DataError, match=r"3\.tar is a symbolic link that leads out"):
        files_below(folder, (".tar",))
