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


@pytest.mark.parametrize("value", [None, {}, {"a": 1}, (1, 2)])
def test_what_was_yielded_is_known_from_the_last_one(value: object) -> None:
    assert opened(value) == (value, False)
    assert opened(Last(value)) == (value, True)


@pytest.mark.parametrize("names", [[], ["b", "a"]])
def test_a_folder_is_complete_once_it_is_closed(
    tmp_path: Path, names: list[str]
) -> None:
    folder = tmp_path / "deep" / "parts"
    open_folder(folder)
    assert not is_complete(folder)
    folder.mkdir(parents=True)
    for name in [*names, "of another run", f".tmp-1-{INDEX}"]:  # a closing was killed
        (folder / name).touch()
    assert not is_complete(folder)
    close_folder(folder, names)
    assert is_complete(folder)
    (folder / "of another run").unlink()
    assert is_complete(folder)
    for name in names:
        (folder / name).unlink()
    assert is_complete(folder) == (not names)
    open_folder(folder)
    assert not is_complete(folder)
