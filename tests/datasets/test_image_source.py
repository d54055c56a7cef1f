"""Where images come from: the digits, folders and zips."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from kedro.io import DataCatalog, DatasetError

from lct_pipeline.datasets.image_source import (
    ImageSourceDataset,
    RawImage,
    open_source,
)
from lct_pipeline.errors import DataError

FILES = {
    "top.PNG": b"top",
    "b/2.jpg": b"b two",
    "b/10.jpeg": b"b ten",
    "b-side/1.webp": b"b side",
    "a/deep/x.gif": b"deep",
    "a/.hidden.png": b"hidden file",
    ".cache/1.png": b"hidden folder",
    "__MACOSX/b/2.jpg": b"resource fork",
    "a/notes.txt": b"text",
    "a/noending": b"nothing",
}
NAMES = ["a/deep/x.gif", "b-side/1.webp", "b/10.jpeg", "b/2.jpg", "top.PNG"]
LABELS = ["deep", "b-side", "b", "b", None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "images"


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("looks-like.png")
        for name, content in reversed(files.items()):
            archive.writestr(name, content)
    return path


def read(source: Path | str, start: int = 0, stop: int = 10**6) -> list[RawImage]:
    return list(open_source(str(source)).read(start, stop))


def fingerprint(source: Path) -> str:
    return open_source(str(source)).fingerprint


def test_digits_are_all_there_with_their_labels() -> None:
    source = open_source("digits")
    images = list(source.read(0, len(source)))
    assert len(source) == len(images) == 1797
    assert [image.label for image in images[:5]] == ["0", "1", "2", "3", "4"]
    assert {image.label for image in images} == {str(digit) for digit in range(10)}
    assert len({image.name for image in images}) == 1797


def test_digits_use_the_whole_range_of_grey() -> None:
    pixels = np.stack([image.content for image in read("digits")])
    assert pixels.shape == (1797, 8, 8)
    assert pixels.dtype == np.uint8
    assert (pixels.min(), pixels.max()) == (0, 255)


def test_digits_always_have_the_same_fingerprint() -> None:
    assert open_source("digits").fingerprint == open_source("digits").fingerprint


def test_reading_past_the_end_stops_there() -> None:
    assert [i.name for i in read("digits", 1795, 3000)] == ["digit-1795", "digit-1796"]


def test_a_folder_is_read_below_and_in_order_without_hidden_files(
    folder: Path,
) -> None:
    images = read(folder)
    assert [image.name for image in images] == NAMES
    assert [image.content for image in images] == [FILES[name] for name in NAMES]
    assert len(open_source(str(folder))) == len(NAMES)


def test_the_folder_that_an_image_lies_in_is_its_label(folder: Path) -> None:
    assert [image.label for image in read(folder)] == LABELS


def test_a_part_of_a_folder_is_read(folder: Path) -> None:
    assert [image.name for image in read(folder, 1, 3)] == NAMES[1:3]


def test_a_zip_holds_what_its_folder_holds(folder: Path, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "images.ZIP", FILES)
    assert read(path) == read(folder)
    assert read(path, 1, 3) == read(folder, 1, 3)
    assert [image.digest for image in read(path)] == [i.digest for i in read(folder)]


def test_the_digest_follows_from_the_content_alone() -> None:
    one = RawImage("a", b"content", "x")
    assert one.digest == RawImage("b", b"content", None).digest
    assert one.digest != RawImage("a", b"Content", "x").digest
    zeros = np.zeros((2, 2), np.uint8)
    assert RawImage("a", zeros, None).digest == RawImage("b", zeros, None).digest


def test_a_folder_named_like_an_image_is_none(folder: Path) -> None:
    (folder / "album.png").mkdir()
    (folder / "album.png" / "1.png").write_bytes(b"inside")
    images = read(folder)
    assert [i.name for i in images] == [*NAMES[:1], "album.png/1.png", *NAMES[1:]]
    assert images[1].label == "album.png"


def test_a_link_to_nowhere_is_left_out(folder: Path) -> None:
    (folder / "broken.png").symlink_to(folder / "gone.png")
    assert [image.name for image in read(folder)] == NAMES


@pytest.mark.parametrize("change", ["touch", "content", "add", "remove", "rename"])
def test_the_fingerprint_of_a_folder_changes_with(folder: Path, change: str) -> None:
    before, file = fingerprint(folder), folder / "b" / "2.jpg"
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


def test_the_fingerprint_of_a_folder_ignores_other_files(folder: Path) -> None:
    before = fingerprint(folder)
    (folder / "notes.md").write_text("about these images")
    assert fingerprint(folder) == before


def test_the_fingerprint_of_a_zip_changes_with_a_member_only(tmp_path: Path) -> None:
    first = fingerprint(write_zip(tmp_path / "1.zip", FILES))
    changed = {**FILES, "b/2.jpg": b"B two"}
    assert fingerprint(write_zip(tmp_path / "2.zip", dict(FILES))) == first
    assert fingerprint(write_zip(tmp_path / "3.zip", changed)) != first


def test_a_zip_cut_in_half_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "half.zip", FILES)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"half\.zip' cannot be read as a zip.*again"):
        open_source(str(path))


@pytest.mark.parametrize("damage", ["stream", "checksum", "header"])
def test_a_damaged_member_of_a_zip_is_empty_and_the_rest_is_read(
    tmp_path: Path, damage: str
) -> None:
    path = write_zip(tmp_path / "images.zip", FILES)
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("b/10.jpeg")
    data = member.header_offset + 30 + len(member.filename)
    place = {
        "stream": data,
        "checksum": data + member.compress_size - 3,
        "header": member.header_offset,
    }[damage]
    content = bytearray(path.read_bytes())
    content[place] = 0xFF if damage != "checksum" else content[place] ^ 0x10
    path.write_bytes(content)
    contents = {image.name: image.content for image in read(path)}
    assert contents == {**{name: FILES[name] for name in NAMES}, "b/10.jpeg": b""}


def test_a_missing_path_is_named_with_what_may_be_given(tmp_path: Path) -> None:
    message = r"ingestion\.source='.*nowhere' does not exist.*folder.*zip.*'digits'"
    with pytest.raises(DataError, match=message):
        open_source(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("name", ["empty", "empty.zip"])
def test_a_source_without_images_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if path.suffix:
        write_zip(path, {"notes.txt": b"text"})
    else:
        path.mkdir()
        (path / "notes.txt").touch()
    with pytest.raises(DataError, match=rf"{name}' holds no image: none of \.jpg"):
        open_source(str(path))


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "images.tar"
    path.touch()
    with pytest.raises(DataError, match=r"images\.tar' is neither a folder nor a"):
        open_source(str(path))


def test_a_home_folder_is_expanded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert [image.name for image in read("~/images")] == NAMES


def test_the_dataset_opens_its_source_and_cannot_be_written(folder: Path) -> None:
    name = "lct_pipeline.datasets.image_source.ImageSourceDataset"
    config = {"images": {"type": name, "source": str(folder)}}
    assert len(DataCatalog.from_config(config).load("images")) == len(NAMES)
    with pytest.raises(DatasetError, match="cannot be written"):
        ImageSourceDataset(source="digits").save(b"")  # type: ignore[arg-type]
