"""Which kind of source a name stands for."""

from pathlib import Path

import numpy as np
import pytest
from kedro.io import DataCatalog, DatasetError
from made_sources import (
    FILES,
    NAMES,
    fingerprint,
    labels,
    options,
    read,
    write_folder,
    write_tar,
    write_zip,
)

from lct_pipeline.datasets.sources import ImageSourceDataset, open_source
from lct_pipeline.errors import DataError


def test_digits_are_all_there_with_their_labels() -> None:
    images = read("digits")
    assert len(open_source("digits", options())) == len(images) == 1797
    assert [image.label for image in images[:5]] == ["0", "1", "2", "3", "4"]
    assert {image.label for image in images} == {str(digit) for digit in range(10)}
    assert len({image.name for image in images}) == 1797
    assert labels("digits", labels="none") == [None] * 1797


def test_digits_use_the_whole_range_of_grey() -> None:
    pixels = np.stack([image.content for image in read("digits")])
    assert (pixels.shape, pixels.dtype) == ((1797, 8, 8), np.uint8)
    assert (pixels.min(), pixels.max()) == (0, 255)


def test_digits_always_have_the_same_fingerprint() -> None:
    assert fingerprint("digits") == fingerprint("digits")


def test_reading_past_the_end_stops_there() -> None:
    assert [i.name for i in read("digits", 1795, 3000)] == ["digit-1795", "digit-1796"]


def test_the_digest_follows_from_the_content_alone() -> None:
    one, other = read("digits", 0, 2)
    assert one.digest == read("digits", 0, 1)[0].digest != other.digest


def test_a_missing_path_is_named_with_what_may_be_given(tmp_path: Path) -> None:
    message = r"ingestion\.source='.*nowhere' does not exist.*folder.*zip.*'digits'"
    with pytest.raises(DataError, match=message):
        open_source(str(tmp_path / "nowhere"), options())


@pytest.mark.parametrize("name", ["empty", "empty.zip", "empty.tar", "shards"])
def test_a_source_without_images_is_refused(tmp_path: Path, name: str) -> None:
    files = {"notes.txt": b"text"}
    if name == "empty":
        write_folder(tmp_path / name, files)
    elif name == "empty.zip":
        write_zip(tmp_path / name, files)
    else:
        path = tmp_path / ("shards/1.tar" if name == "shards" else name)
        write_tar(path, files)
    with pytest.raises(DataError, match=rf"{name}' holds no image: none of \.jpg"):
        open_source(str(tmp_path / name), options())


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images.rar").touch()
    with pytest.raises(DataError, match=r"images\.rar' is none of: a folder, \.zip"):
        open_source(str(tmp_path / "images.rar"), options())


def test_a_home_folder_is_expanded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "images", FILES)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert [image.name for image in read("~/images")] == NAMES


def test_images_of_a_folder_come_before_its_archives(tmp_path: Path) -> None:
    write_tar(tmp_path / "1.tar", {"in.png": b"in"})
    assert [raw.name for raw in read(tmp_path)] == ["1.tar/in.png"]
    write_folder(tmp_path, {"beside.png": b"beside"})
    assert [raw.name for raw in read(tmp_path)] == ["beside.png"]


def test_a_folder_of_links_that_lead_outside_says_so(tmp_path: Path) -> None:
    write_folder(tmp_path / "elsewhere", FILES)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "class").symlink_to(tmp_path / "elsewhere")
    (found,) = read(tmp_path / "images")
    assert (found.name, found.content) == ("class", b"")
    assert "leads out of the folder" in str(found.problem)


@pytest.mark.parametrize(
    ("pattern", "shards"),
    [
        ("s-{000..002}.tar", [0, 1, 2]),
        ("s-00{2,0}.tar", [2, 0]),
        ("s-*.tar", [0, 1, 2]),
        ("s-00[12].tar", [1, 2]),
    ],
)
def test_a_pattern_stands_for_shards(
    tmp_path: Path, pattern: str, shards: list[int]
) -> None:
    for shard in range(3):
        write_tar(tmp_path / f"s-{shard:03d}.tar", {"1.png": b"%d" % shard})
    found = read(tmp_path / pattern)
    assert [raw.content for raw in found] == [b"%d" % shard for shard in shards]
    assert [raw.name for raw in found] == [f"s-{n:03d}.tar/1.png" for n in shards]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "images[1].zip", FILES)
    assert len(read(path)) == len(NAMES)


def test_a_pattern_with_a_gap_is_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "s-0.tar", {"1.png": b""})
    with pytest.raises(DataError, match=r"there is no file '.*s-1\.tar'"):
        open_source(str(tmp_path / "s-{0..9}.tar"), options())
    with pytest.raises(DataError, match=r"there is no file '.*t-\*\.tar'"):
        open_source(str(tmp_path / "t-*.tar"), options())


def test_a_pattern_of_different_kinds_is_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "s.tar", {"1.png": b""})
    write_zip(tmp_path / "s.zip", FILES)
    with pytest.raises(DataError, match=r"stands for 's\.tar' and others"):
        open_source(str(tmp_path / "s.*"), options())


def test_the_dataset_opens_its_source_and_cannot_be_written(tmp_path: Path) -> None:
    given = {
        "type": "lct_pipeline.datasets.sources.ImageSourceDataset",
        "source": str(write_folder(tmp_path / "images", FILES)),
        "labels": "none",
        "image_column": None,
        "label_column": "label",
        "hub_split": "train",
        "max_mib": 1,
    }
    catalog = DataCatalog.from_config(
        {"images": given, "none": {**given, "source": None}}
    )
    images = catalog.load("images")
    assert [raw.label for raw in images.read(0, 9)] == [None] * len(NAMES)
    assert catalog.load("none") is None
    del given["type"]
    with pytest.raises(DatasetError, match="cannot be written"):
        ImageSourceDataset(**given).save(b"")  # type: ignore[arg-type]
