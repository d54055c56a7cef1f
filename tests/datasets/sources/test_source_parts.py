"""The fingerprints of parts of a source: what did not change keeps its own when a source grows."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_sources import options, png, write_folder, write_tar, write_zip

from lct_pipeline.datasets.sources import open_source


def parts(source: Path, size: int = 2) -> list[str]:
    opened = open_source(str(source), options())
    starts = range(0, len(opened), size)
    return [opened.fingerprint_of(start, start + size) for start in starts]


def write_files(folder: Path, number: int) -> None:
    write_folder(folder, {f"{number}{n}.png": png(n) for n in range(3)})


def write_archive(folder: Path, number: int) -> None:
    folder.mkdir(exist_ok=True)
    files = {f"{number}{n}.png": png(n) for n in range(3)}
    write_tar(folder / f"train-{number}.tar", files)


def write_table(folder: Path, number: int) -> None:
    folder.mkdir(exist_ok=True)
    table = pa.table({"image": [png(n) for n in range(3)]})
    pq.write_table(table, folder / f"train-{number}.parquet")


WRITERS = pytest.mark.parametrize(
    "write", [write_files, write_archive, write_table], ids=lambda w: w.__name__
)


@WRITERS
def test_what_comes_behind_changes_the_last_part_alone(
    tmp_path: Path, write: Callable[[Path, int], None]
) -> None:
    for number in range(3):
        write(tmp_path / "images", number)
    before = parts(tmp_path / "images")
    assert len(set(before)) == 5
    assert parts(tmp_path / "images") == before
    write(tmp_path / "images", 3)
    after = parts(tmp_path / "images")
    assert after[:4] == before[:4]
    assert after[4] != before[4]


@WRITERS
def test_a_changed_file_changes_the_parts_that_it_is_in(
    tmp_path: Path, write: Callable[[Path, int], None]
) -> None:
    for number in range(3):
        write(tmp_path / "images", number)
    before = parts(tmp_path / "images", 3)
    second = sorted((tmp_path / "images").iterdir())
    chosen = second[4] if write is write_files else second[1]
    os.utime(chosen, ns=(0, 10**9))
    after = parts(tmp_path / "images", 3)
    assert [a == b for a, b in zip(after, before, strict=True)] == [True, False, True]


@WRITERS
def test_what_comes_before_changes_all_parts(
    tmp_path: Path, write: Callable[[Path, int], None]
) -> None:
    for number in (1, 2):
        write(tmp_path / "images", number)
    before = parts(tmp_path / "images")
    write(tmp_path / "images", 0)
    assert not set(parts(tmp_path / "images")) & set(before)


def test_a_source_that_cannot_tell_its_parts_apart_has_one_for_all(
    tmp_path: Path,
) -> None:
    path = write_zip(tmp_path / "a.zip", {f"{n}.png": png(n) for n in range(4)})
    assert len(set(parts(path))) == 1
