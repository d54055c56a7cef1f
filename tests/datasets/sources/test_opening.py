"""Which kind of source a name stands for, and what all kinds have in common."""

import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kedro.io import DataCatalog, DatasetError
from made_sources import (
    FILES,
    LABELS,
    NAMES,
    fingerprint,
    labels,
    options,
    png,
    read,
    write_folder,
    write_tar,
    write_zip,
)

from lct_pipeline.datasets.sources import ImageSourceDataset, open_source
from lct_pipeline.datasets.sources.opening import expand
from lct_pipeline.errors import DataError

ARCHIVES = [".ZIP", ".zip", ".tar", ".tar.gz", ".tar.bz2"]


def write_archive(path: Path, files: dict[str, bytes]) -> Path:
    if path.suffix == ".ZIP":
        return write_zip(path, files, zipfile.ZIP_STORED)
    return (write_zip if path.suffix == ".zip" else write_tar)(path, files)


@pytest.mark.parametrize("suffix", ARCHIVES)
def test_an_archive_holds_what_its_folder_holds(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "lct_pipeline")
    folder = write_folder(tmp_path / "images", FILES)
    path = write_archive(tmp_path / f"images{suffix}", FILES)
    found = read(path)
    order = NAMES if suffix.lower() == ".zip" else [n for n in FILES if n in NAMES]
    assert [raw.name for raw in found] == order
    assert sorted(found, key=lambda raw: raw.name) == read(folder)
    assert [raw.label for raw in read(folder)] == LABELS
    for start in range(6):
        assert read(path, start, start + 2) == found[start : start + 2]
    for note in ("2 files without", "members"):  # of files that are no images
        assert note in caplog.text


@pytest.mark.parametrize("suffix", [*ARCHIVES, ".parquet", ".npy", ".npz"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_one_cut_short_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    rng, path = random.Random(0), tmp_path / f"images{suffix}"
    files = {f"{n}.png": rng.randbytes(5000) for n in range(20)}
    if suffix == ".parquet":
        pq.write_table(pa.table({"image": list(files.values())}), path)
    elif suffix == ".npy":
        np.save(path, np.zeros((20, 9, 11), np.uint8))
    elif suffix == ".npz":
        np.savez_compressed(path, x=np.zeros((20, 9, 11), np.uint8))
    else:
        write_archive(path, files)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(DataError, match=r"images\.\S+ cannot be read as"):
        read(path)


def test_digits_are_all_there_with_their_labels() -> None:
    images = read("digits")
    assert len(open_source("digits", options())) == len(images) == 1797
    assert [image.label for image in images[:5]] == ["0", "1", "2", "3", "4"]
    assert {image.label for image in images} == {str(digit) for digit in range(10)}
    assert len({image.name for image in images}) == 1797
    assert labels("digits", labels="none") == [None] * 1797
    pixels = np.stack([image.content for image in images])
    assert (pixels.shape, pixels.dtype) == ((1797, 8, 8), np.uint8)
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert fingerprint("digits") == fingerprint("digits")
    assert [i.name for i in read("digits", 1795, 3000)] == ["digit-1795", "digit-1796"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", r"nowhere' does not exist\. .*folder.*zip.*'digits'"),
        ("images.rar", r"images\.rar' is none of: a folder, \.zip"),
        ("s-{0..9}.tar", r"there is no file '.*s-1\.tar'"),
        ("t-*.tar", r"there is no file '.*t-\*\.tar'"),
        ("s-0.*", "is none of: .*a pattern of .tar or .parquet files"),
    ],
)
def test_what_stands_for_no_source_is_refused(
    tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / "images.rar").touch()
    write_tar(tmp_path / "s-0.tar", {"1.png": b""})
    write_zip(tmp_path / "s-0.zip", FILES)
    with pytest.raises(DataError, match=rf"ingestion\.source='.*{message}"):
        open_source(str(tmp_path / name), options())


@pytest.mark.parametrize("name", ["empty", "empty.zip", "empty.tar", "shards"])
def test_a_source_without_images_is_refused(tmp_path: Path, name: str) -> None:
    files = {"notes.txt": b"text"}
    if name == "empty":
        write_folder(tmp_path / name, files)
    else:
        write_archive(tmp_path / ("shards/1.tar" if name == "shards" else name), files)
    with pytest.raises(DataError, match=rf"{name}' holds no image: none of \.jpg"):
        open_source(str(tmp_path / name), options())


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


@pytest.mark.parametrize(
    ("pattern", "shards"),
    [
        ("s-{000..002}.tar", [0, 1, 2]),
        ("s-00{2,0}.tar", [2, 0]),
        ("s-*.tar", [0, 1, 2]),
        ("s-00[12].tar", [1, 2]),
        ("album [2021]/s-{000..002}.tar", [0, 1, 2]),
        ("album [2021]/s-00[12].tar", [1, 2]),
    ],
)
def test_a_pattern_stands_for_shards(
    tmp_path: Path, pattern: str, shards: list[int]
) -> None:
    for shard in range(3):
        name = f"{os.path.dirname(pattern)}/s-{shard:03d}.tar".lstrip("/")
        write_tar(tmp_path / name, {"1.png": b"%d" % shard})
    found = read(tmp_path / pattern)
    assert [raw.content for raw in found] == [b"%d" % shard for shard in shards]
    assert [raw.name for raw in found] == [f"s-{n:03d}.tar/1.png" for n in shards]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "images[1].zip", FILES)
    assert len(read(path)) == len(NAMES)


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_the_fingerprint_of_an_archive_follows_names_content_and_labels(
    tmp_path: Path, suffix: str
) -> None:
    def of(files: dict[str, bytes], **changes: str) -> str:
        path = write_archive(tmp_path / f"images{suffix}", files)
        os.utime(path, ns=(0, 0))
        return fingerprint(path, **changes)

    renamed = {name.replace("top", "pot"): content for name, content in FILES.items()}
    first = of(FILES)
    assert of(FILES) == first
    assert of(renamed) != first
    assert of(FILES, labels="none") != first
    assert of({**FILES, "b/2.jpg": b"longer than it was" * 999}) != first


def parts(source: Path, size: int = 2) -> list[str]:
    opened = open_source(str(source), options())
    starts = range(0, len(opened), size)
    return [opened.fingerprint_of(start, start + size) for start in starts]


def write_files(folder: Path, number: int) -> None:
    write_folder(folder, {f"{number}{n}.png": png(n) for n in range(3)})


def write_shard(folder: Path, number: int) -> None:
    folder.mkdir(exist_ok=True)
    files = {f"{number}{n}.png": png(n) for n in range(3)}
    write_tar(folder / f"train-{number}.tar", files)


def write_table(folder: Path, number: int) -> None:
    folder.mkdir(exist_ok=True)
    table = pa.table({"image": [png(n) for n in range(3)]})
    pq.write_table(table, folder / f"train-{number}.parquet")


@pytest.mark.parametrize("write", [write_files, write_shard, write_table])
def test_what_did_not_change_keeps_its_fingerprint_when_a_source_grows(
    tmp_path: Path, write: Callable[[Path, int], None]
) -> None:
    folder = tmp_path / "images"
    for number in (1, 2, 3):
        write(folder, number)
    before, thirds = parts(folder), parts(folder, 3)
    assert len(set(before)) == 5
    assert parts(folder) == before
    write(folder, 4)  # what comes behind changes the last part alone
    after = parts(folder)
    assert after[:4] == before[:4] and after[4] != before[4]
    files = sorted(folder.iterdir())
    os.utime(files[4 if write is write_files else 1], ns=(0, 10**9))
    changed = [a == b for a, b in zip(parts(folder, 3), thirds, strict=False)]
    assert changed == [True, False, True]
    write(folder, 0)  # what comes before changes all parts
    assert not set(parts(folder)) & set(before)


def test_a_zip_has_one_fingerprint_for_all_its_parts(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {f"{n}.png": png(n) for n in range(4)})
    assert len(set(parts(path))) == 1


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


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a", ["a"]),
        ("a-{0..3}", ["a-0", "a-1", "a-2", "a-3"]),
        ("{08..11}.tar", ["08.tar", "09.tar", "10.tar", "11.tar"]),
        ("{b,a}{0..1}", ["b0", "b1", "a0", "a1"]),
        ("{x,y}/{,z}", ["x/", "x/z", "y/", "y/z"]),
        ("{3..1}", []),
    ],
)
def test_braces_are_expanded_as_shells_do(pattern: str, names: list[str]) -> None:
    assert expand(pattern) == names
