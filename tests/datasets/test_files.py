"""Files that are whole or absent."""

import errno
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lct_pipeline.datasets.files import atomic_path
from lct_pipeline.errors import DataError


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


@pytest.mark.parametrize(
    ("name", "umask"), [("file", 0o027), ("file", 0o002), ("folder/deep/file", 0o022)]
)
def test_a_file_has_the_rights_of_any_new_one(
    tmp_path: Path, name: str, umask: int
) -> None:
    """Those of safetensors would be its owner's alone."""
    target = tmp_path / name.partition("/")[0]
    before = os.umask(umask)
    try:
        with atomic_path(target) as temporary:
            file = temporary / name.partition("/")[2]
            file.parent.mkdir(parents=True, exist_ok=True)
            save_file({"a": torch.zeros(1)}, file)
    finally:
        os.umask(before)
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o666 & ~umask
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def test_readers_see_the_old_file_until_the_write_is_done(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with atomic_path(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
        assert temporary.name.startswith(".tmp-")
        assert temporary.parent == target.parent
        with atomic_path(target) as of_another:  # in a container with the same numbers
            assert of_another != temporary
            of_another.write_text("newer")
    assert target.read_text() == "new"


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "No space left.*Free some space"),
        (errno.EDQUOT, "Free some space"),
        (errno.EROFS, "Run in a folder that can be written to"),
        (errno.EACCES, "the right to write there"),
    ],
)
def test_a_disk_that_takes_no_more_is_told_with_the_file(
    tmp_path: Path, number: int, remedy: str
) -> None:
    target = tmp_path / "results.json"
    target.write_text("old")
    with pytest.raises(DataError, match=rf"results\.json cannot be written.*{remedy}"):
        with atomic_path(target):
            raise OSError(number, os.strerror(number))
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
    assert target.read_text() == "old"
