"""Files that are whole or absent."""

from pathlib import Path

import pytest

from lct_pipeline.datasets.files import atomic_path


def test_a_successful_write_replaces_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a.txt"
    for text in ("old", "new"):
        with atomic_path(target) as temporary:
            temporary.write_text(text)
    assert target.read_text() == "new"
    assert [path.name for path in target.parent.iterdir()] == ["a.txt"]


def test_readers_see_the_old_file_until_the_write_is_done(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with atomic_path(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
        assert temporary.name.startswith(".tmp-")
        assert temporary.parent == target.parent


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failed_write_of_a_folder_leaves_the_old_folder(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    (target / "old").touch()
    with pytest.raises(ZeroDivisionError), atomic_path(target) as temporary:
        temporary.mkdir()
        (temporary / "half").touch()
        raise ZeroDivisionError
    assert [path.name for path in target.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    for name in ("old", "new"):
        with atomic_path(target) as temporary:
            temporary.mkdir()
            (temporary / name).touch()
    assert [path.name for path in target.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [target]
