"""Files that are whole or absent."""

from pathlib import Path

import pytest

from lct_pipeline.datasets.files import atomic_path


def write(path: Path, is_folder: bool, text: str) -> None:
    if is_folder:
        path.mkdir()
        path /= text
    path.write_text(text)


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_write_replaces_what_was_there_whole_or_leaves_it(
    tmp_path: Path, is_folder: bool
) -> None:
    target = tmp_path / "deep" / "target"
    for text in ("old", "new"):
        with atomic_path(target) as temporary:
            write(temporary, is_folder, text)
    with pytest.raises(ZeroDivisionError), atomic_path(target) as temporary:
        write(temporary, is_folder, "half")
        raise ZeroDivisionError
    assert list(target.parent.iterdir()) == [target]
    (found,) = target.iterdir() if is_folder else [target]
    assert found.read_text() == "new"


def test_readers_see_the_old_file_until_the_write_is_done(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with atomic_path(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
        assert temporary.name.startswith(".tmp-")
        assert temporary.parent == target.parent
