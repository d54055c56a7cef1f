"""Labels of a .csv."""

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
    ("rows", "expected"),
    [
        (("a/1.jpg,x", "a/2.png,y", "b/4.x.jpg,z"), ["x", "y", None, "z"]),
        (("1.jpg,x", "2.png,y", "4.x.jpg,z"), ["x", "y", None, "z"]),
        (("else/where/1.jpg,x", "4.x.jpg,z"), ["x", None, None, "z"]),
        (("1,x", "2,y", "4.x,z"), ["x", "y", None, "z"]),
        (("1.webp,x", "4.x.webp,z"), ["x", None, None, "z"]),
        # as many as can be found
        (("a/1.jpg,x", "2,y", "4.x,z"), ["x", "y", None, "z"]),
        # no label
        (("1.jpg,", "2.png,ü"), [None, "ü", None, None]),
    ],
)
def test_whole_names_or_base_names_or_those_without_suffix_match(
    folder: Path, rows: tuple[str, ...], expected: list[str | None]
) -> None:
    assert labels(folder, labels=write_csv(folder, *rows)) == expected
    marked = write_csv(folder, *rows, header="\ufefffile,label")
    assert labels(folder, labels=marked) == expected


def test_archives_and_digits_are_labelled_alike(tmp_path: Path) -> None:
    archives = [
        write_zip(tmp_path / "images.zip", FILES),
        write_tar(tmp_path / "images.tar", FILES),
        write_tar(tmp_path / "shards" / "0.tar", FILES).parent,
    ]
    path = write_csv(tmp_path / "images.zip", "1.jpg,x", "4.x.jpg,z", "digit-0001,one")
    for archive in archives:
        assert labels(archive, labels=path) == ["x", None, None, "z"]
    assert labels("digits", labels=path)[:3] == [None, "one", None]


def test_columns_may_be_named(folder: Path) -> None:
    path = write_csv(folder, "cat,1.jpg", "dog,2.png", header="label,name")
    assert labels(folder, labels=path) == ["cat", "dog", None, None]
    path = write_csv(folder, "9,cat,1.jpg", "8,dog,2.png", header="id,class,name")
    changes = {"image_column": "name", "label_column": "class"}
    assert labels(folder, labels=path, **changes) == ["cat", "dog", None, None]


def test_a_name_of_several_images_is_refused(tmp_path: Path) -> None:
    files = {"a/1.jpg": b"1", "b/1.jpg": b"1", "b/2.jpg": b"2"}
    folder = write_folder(tmp_path / "images", files)
    path = write_csv(folder, "1.jpg,x", "2.jpg,y")
    with pytest.raises(DataError, match=r"has '1\.jpg', which may be several images"):
        labels(folder, labels=path)
    path = write_csv(folder, "a/1.jpg,x", "b/1.jpg,y")
    assert labels(folder, labels=path) == ["x", "y", None]


@pytest.mark.parametrize(
    ("rows", "changes", "message"),
    [
        (["x.jpg,1"], {}, r"names none of the images: .*'x\.jpg', the source 'a/1"),
        ([], {}, "names none of the images"),
        (["1.jpg,x", "1.jpg,y"], {}, r"'1\.jpg' with two labels, 'x' and 'y'"),
        (["p/1.jpg,x", "q/1.jpg,y"], {}, r"'q/1\.jpg', which .* several labels"),
        (["1,x"], {"label_column": "class"}, "column 'class'; there are: file, label"),
        (["1,x"], {"image_column": "image"}, "column 'image'; there are: file, label"),
    ],
)
def test_a_csv_that_cannot_be_meant_is_refused(
    folder: Path, rows: list[str], changes: dict[str, str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        labels(folder, labels=write_csv(folder, *rows), **changes)


@pytest.mark.parametrize("name", ["nowhere.csv", "images", "folder"])
def test_what_is_no_csv_is_refused(folder: Path, name: str) -> None:
    path = write_csv(folder)
    Path(path).write_bytes(b"file,label\n\xff\xfe,x\n")
    with pytest.raises(DataError, match="cannot be read as UTF-8 text"):
        open_source(str(folder), options(labels=path))
    with pytest.raises(DataError, match="none of folders, column and none, and there"):
        open_source(str(folder), options(labels=str(folder.parent / name)))


def test_the_fingerprint_follows_the_labels_of_the_csv(folder: Path) -> None:
    first = fingerprint(folder, labels=write_csv(folder, "1.jpg,x"))
    assert fingerprint(folder, labels=write_csv(folder, "1.jpg,x", "9,9")) == first
    assert fingerprint(folder, labels=write_csv(folder, "1.jpg,y")) != first
