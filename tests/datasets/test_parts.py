"""Results in parts: complete when the last is there, and all files with it."""

from pathlib import Path

import pytest

from lct_pipeline.datasets.parts import (
    INDEX,
    Last,
    close_folder,
    is_complete,
    open_folder,
    opened,
)


def filled(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


@pytest.mark.parametrize("value", [None, {}, {"a": 1}, (1, 2)])
def test_what_was_yielded_is_known_from_the_last_one(value: object) -> None:
    assert opened(value) == (value, False)
    assert opened(Last(value)) == (value, True)


def test_a_folder_is_complete_once_it_is_closed(tmp_path: Path) -> None:
    folder = filled(tmp_path / "deep" / "parts", "a", "b")
    assert not is_complete(folder)
    close_folder(folder, ["b", "a"])
    assert is_complete(folder)
    open_folder(folder)
    assert not is_complete(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["a", "b"]


def test_a_file_that_was_deleted_makes_it_incomplete(tmp_path: Path) -> None:
    folder = filled(tmp_path, "a", "b")
    close_folder(folder, ["a", "b"])
    (folder / "a").unlink()
    assert not is_complete(folder)


def test_files_that_came_later_are_none_of_it(tmp_path: Path) -> None:
    folder = filled(tmp_path, "a")
    close_folder(folder, ["a"])
    filled(folder, "b")
    assert is_complete(folder)


def test_what_has_no_parts_can_be_complete(tmp_path: Path) -> None:
    close_folder(tmp_path / "new", [])
    assert is_complete(tmp_path / "new")


def test_a_folder_that_is_not_there_is_open(tmp_path: Path) -> None:
    open_folder(tmp_path / "none")
    assert not is_complete(tmp_path / "none")


def test_a_closing_that_was_killed_leaves_it_open(tmp_path: Path) -> None:
    folder = filled(tmp_path, "a")
    (folder / f".tmp-1-{INDEX}").write_text("{")
    assert not is_complete(folder)
