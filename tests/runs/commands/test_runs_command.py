"""``kedro lct runs``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from made_results import row
from making_runs import make_record, make_run

from lct_pipeline.cli import cli

LATER = "2026-03-02T10.00.00.000Z"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def invoke(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(cli, ["lct", "runs", *words])
    assert result.exit_code == code, result.output
    return result.output


def listed(*words: str) -> list[str]:
    return [run["name"] for run in json.loads(invoke("--json", *words))]


def several(project: Path) -> None:
    """Make three runs: an old good one, a newer worse one, and the newest that failed."""
    make_run(project, "old", make_record(), rows=[row("last", 1.0)], steps=(60,))
    later = make_record(started=LATER, ended=LATER)
    make_run(project, "new", later, rows=[row("last", 2.0)], steps=(5, 15))
    failed = make_record(
        started="2026-03-03T10.00.00.000Z",
        ended="2026-03-03T12.00.00.000Z",
        status="failed",
        error="DataError: photos.zip is damaged.\nmore",
    )
    make_run(project, "broken", failed)


def test_without_runs_it_says_how_to_make_one(folder: Path) -> None:
    assert invoke().startswith("There are no runs yet. `kedro run` makes one")
    assert json.loads(invoke("--json")) == []


def test_the_table_has_each_run_with_its_values(folder: Path) -> None:
    several(folder)
    lines = invoke().splitlines()
    ends = ("finished", "failed")
    words = [line.split() for line in lines if line.strip()]
    first = [word[0] for word in words if len(word) > 1 and word[1] in ends]
    assert first == ["broken", "new", "old"]
    (old,) = (line for line in lines if line.startswith("old"))
    assert "finished" in old and "1.00 ± 0.10" in old and old.split()[3] == "60"
    below_new = lines[
        next(i for i, line in enumerate(lines) if line.startswith("new")) + 1
    ]
    assert "of 60" in below_new  # 15 steps of 60
    assert "02 Mar 10:00" in below_new and "smoke" in below_new


def test_the_table_fits_100_columns_and_has_no_colours_in_a_file(folder: Path) -> None:
    several(folder)
    name = "celebahq256-at-a-learning-rate-of-0.0001"
    rows = [row(m, 1234.5, std=12.3) for m in ("last", "best_ema", "combined")]
    make_run(folder, name, make_record(env="digits_small_batch"), rows=rows, steps=(9,))
    text = invoke()
    assert max(map(len, text.splitlines())) <= 100
    assert "\x1b" not in text
    assert text.count("1,234 ± 12") == 3


def test_values_have_the_letter_of_how_they_were_made(folder: Path) -> None:
    make_run(folder, "one", make_record(), rows=[row("last", 1.0)])
    other = row("last", 1.0, protocol="22222222", num_generated=50_000)
    make_run(folder, "two", make_record(started=LATER), rows=[other])
    make_run(folder, "three", make_record(started=LATER), rows=[other])
    text = invoke()
    for letter, count, protocol in (
        ("a", "50,000", "22222222"),
        ("b", "2,000", "aaaa1111"),
    ):
        made = f"{count} images against 385 of the test split [{protocol}]"
        assert f"  {letter}  classifier, {made}" in text
    letters = [line.split()[-3] for line in text.splitlines() if "finished" in line]
    assert letters == ["a", "a", "b"]


def test_a_run_of_another_version_is_listed_as_such_and_hides_no_other(
    folder: Path,
) -> None:
    several(folder)
    path = folder / "data/08_reporting/old/evaluation.json"
    rows = json.loads(path.read_text())["rows"]
    path.write_text(json.dumps({"rows": [row | {"second_sigma": 1} for row in rows]}))
    text = invoke()
    assert "old (unreadable): " in text and "not as this version writes it" in text
    assert {run["name"]: run["status"] for run in json.loads(invoke("--json"))} == {
        "broken": "failed",
        "new": "finished",
        "old": "unreadable",
    }


def test_runs_are_sorted_and_limited(folder: Path) -> None:
    several(folder)
    assert listed() == ["broken", "new", "old"]
    assert listed("--limit=2") == ["broken", "new"]
    assert listed("--sort=last") == ["old", "new", "broken"]
    assert listed("--sort=last", "--limit=1") == ["old"]
    assert listed("--sort=minutes")[0] == "broken"
    assert listed("--sort=size")[0] == "new"
    assert listed("--sort=name") == ["broken", "new", "old"]


def test_programs_get_every_value(folder: Path) -> None:
    several(folder)
    old: dict[str, Any] = json.loads(invoke("--json"))[-1]
    assert old["figures"] == {"last": {"value": 1.0, "std": 0.1}}
    assert (old["num_images"], old["num_steps"], old["minutes"]) == (6, 60, 1.0)


def test_a_damaged_record_ends_with_one_message(folder: Path) -> None:
    several(folder)
    (folder / "data/08_reporting/old/records/x.json").write_text("{")
    assert "x.json is not a readable record" in invoke(code=1)
