"""JSON that another machine may have written is read within bounds."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lct_pipeline.datasets.json_files import read_json
from lct_pipeline.errors import DataError


def test_what_json_says_is_returned(tmp_path: Path) -> None:
    value = {"a": [1, -2.5e3, None, True, "é"], "b": {"c": {}}, "d": 2**63}
    (tmp_path / "a.json").write_text(json.dumps(value))
    assert read_json(tmp_path / "a.json") == value
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "gone.json")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "Expecting property name"),
        ("[" * 40 + "]" * 40, "more than 32 levels"),
        ("[" * 10**5 + "]" * 10**5, "recursion"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "the name 'c' stands twice"),
        ("[NaN]", "NaN is not a finite number"),
        ("[-Infinity]", "-Infinity is not"),
        ("[1e999]", "1e999 is not a finite"),
        (f"[{'9' * 5000}]", "more than 20 digits"),
        (" " * (2**20 + 1), "more than 1 MiB"),
        ("\udcff", "can't decode byte 0xff"),
        (r'["\ud800"]', "surrogates not allowed"),
    ],
)
def test_what_is_out_of_bounds_is_one_message(
    tmp_path: Path, text: str, problem: str
) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=rf"a\.json is not readable JSON: .*{problem}"):
        read_json(path, max_mib=1)


def test_links_folders_and_pipes_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("{}")
    (tmp_path / "link.json").symlink_to(tmp_path / "secret")
    (tmp_path / "gone.json").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.json").mkdir()
    os.mkfifo(tmp_path / "pipe.json")
    for path in tmp_path.glob("*.json"):
        with pytest.raises(DataError, match=r"it is a link|is a (folder|FIFO)"):
            read_json(path)
