"""Labels of a .csv, and how they are kept."""

from pathlib import Path

import pytest
from made_sources import (
    fingerprint,
    labels,
    options,
    write_folder,
    write_tar,
    write_zip,
)

from lct_pipeline.datasets.sources import open_source
from lct_pipeline.datasets.sources.labels import Labels
from lct_pipeline.errors import DataError

FILES = {"a/1.jpg": b"1", "a/2.png": b"2", "b/3.jpg": b"3", "b/4.x.jpg": b"4"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "images", FILES)


def write_csv(folder: Path, *rows: str, header: str = "file,label") -> str:
    path = folder.parent / "labels.csv"
    path.write_text("\n".join([header, *rows]), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    "rows",
    [
        ("a/1.jpg,x", "a/2.png,y", "b/4.x.jpg,z"),
        ("1.jpg,x", "2.png,y", "4.x.jpg,z"),
        ("else/where/1.jpg,x", "else/where/2.png,y", "4.x.jpg,z"),
        ("1,x", "2,y", "4.x,z"),
        ("1.webp,x", "2.webp,y", "4.x.webp,z"),
    ],
)
def test_whole_names_or_base_names_or_those_without_suffix_match(
    folder: Path, rows: tuple[str, ...]
) -> None:
    path = write_csv(folder, *rows)
    assert labels(folder, labels=path) == ["x", "y", None, "z"]


def test_archives_are_labelled_alike(tmp_path: Path) -> None:
    archives = [
        write_zip(tmp_path / "images.zip", FILES),
        write_tar(tmp_path / "images.tar", FILES),
        write_tar(tmp_path / "shards" / "0.tar", FILES).parent,
    ]
    path = write_csv(tmp_path / "images.zip", "1.jpg,x", "4.x.jpg,z")
    for archive in archives:
        assert labels(archive, labels=path) == ["x", None, None, "z"]


def test_digits_may_be_labelled_anew(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "none", "digit-0003,three", "digit-0001,one")
    found = labels("digits", labels=path)
    assert found[:5] == [None, "one", None, "three", None]


def test_columns_may_be_named(folder: Path) -> None:
    path = write_csv(folder, "9,cat,1.jpg", "8,dog,2.png", header="id,class,name")
    changes = {"image_column": "name", "label_column": "class"}
    assert labels(folder, labels=path, **changes) == ["cat", "dog", None, None]


def test_a_name_of_several_images_labels_none_of_them(tmp_path: Path) -> None:
    files = {"a/1.jpg": b"1", "b/1.jpg": b"1", "b/2.jpg": b"2"}
    folder = write_folder(tmp_path / "images", files)
    path = write_csv(folder, "1.jpg,x", "2.jpg,y")
    assert labels(folder, labels=path) == [None, None, "y"]
    path = write_csv(folder, "a/1.jpg,x", "b/1.jpg,y")
    assert labels(folder, labels=path) == ["x", "y", None]


def test_rows_that_differ_only_in_their_folder_label_none(folder: Path) -> None:
    path = write_csv(folder, "p/1.jpg,x", "q/1.jpg,y", "p/2.png,z")
    assert labels(folder, labels=path) == [None, "z", None, None]


def test_an_empty_label_is_none_and_a_byte_order_mark_is_passed_over(
    folder: Path,
) -> None:
    path = write_csv(folder, "1.jpg,", "2.png,ü", header="\ufefffile,label")
    assert labels(folder, labels=path) == [None, "ü", None, None]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["x.jpg,1"], r"names none of the images: .*'x\.jpg', the source 'a/1\.jpg'"),
        ([], "names none of the images"),
        (["1.jpg,x", "1.jpg,y"], r"'1\.jpg' with two labels, 'x' and 'y'"),
    ],
)
def test_a_csv_that_cannot_be_meant_is_refused(
    folder: Path, rows: list[str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        open_source(str(folder), options(labels=write_csv(folder, *rows)))


@pytest.mark.parametrize(
    "changes", [{"label_column": "class"}, {"image_column": "image"}]
)
def test_a_column_that_is_not_there_is_named_with_those_that_are(
    folder: Path, changes: dict[str, str]
) -> None:
    path = write_csv(folder, "1.jpg,x")
    (missing,) = changes.values()
    message = rf"labels\.csv' has no column '{missing}'; there are: file, label\. Set"
    with pytest.raises(DataError, match=message):
        open_source(str(folder), options(labels=path, **changes))


@pytest.mark.parametrize("name", ["nowhere.csv", "images", "folder"])
def test_what_is_no_csv_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(DataError, match="none of folders, column and none, and there"):
        open_source(str(folder), options(labels=str(folder.parent / name)))


def test_a_csv_that_is_no_text_is_refused(folder: Path) -> None:
    path = write_csv(folder)
    Path(path).write_bytes(b"file,label\n\xff\xfe,x\n")
    with pytest.raises(DataError, match="cannot be read as UTF-8 text"):
        open_source(str(folder), options(labels=path))


def test_the_fingerprint_follows_the_labels_of_the_csv(folder: Path) -> None:
    first = fingerprint(folder, labels=write_csv(folder, "1.jpg,x"))
    assert fingerprint(folder, labels=write_csv(folder, "1.jpg,x", "9,9")) == first
    assert fingerprint(folder, labels=write_csv(folder, "1.jpg,y")) != first


def test_labels_are_kept_as_they_came() -> None:
    given = ["a", None, "b", "a", None]
    kept = Labels(given)
    assert (list(kept), len(kept), kept[3]) == (given, 5, "a")
    assert kept.digest == Labels(given).digest
    for other in (["a", None, "b", "a"], ["b", None, "a", "b", None], given[::-1]):
        assert Labels(other).digest != kept.digest
