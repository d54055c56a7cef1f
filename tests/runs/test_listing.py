"""The key numbers of runs, and ``kedro lct runs``, which lists them."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest
from click.testing import CliRunner
from hostile import HOSTILE, steers_no_terminal
from making_runs import SPLITS, make_record, make_run, row

from conftest import SmokeResults
from lct_pipeline.cli import cli
from lct_pipeline.runs.listing import key_rows, summarise
from lct_pipeline.runs.reading import find_run

LATER = "2026-03-02T10.00.00.000Z"


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


def test_a_run_that_this_version_cannot_read_is_listed_and_hides_no_other(
    folder: Path,
) -> None:
    several(folder)
    theirs = make_record(**{"parameters.training.betas": [0.9]})
    make_run(folder, "theirs", theirs)
    path = folder / "data/08_reporting/old/evaluation.json"
    rows = json.loads(path.read_text())["rows"]
    path.write_text(json.dumps({"rows": [row | {"second_sigma": 1} for row in rows]}))
    text = invoke()
    assert "old (unreadable): " in text and "not as this version writes it" in text
    assert {run["name"]: run["status"] for run in json.loads(invoke("--json"))} == {
        "broken": "failed",
        "new": "finished",
        "old": "unreadable",
        "theirs": "other version",
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


def test_a_damaged_record_is_told_and_hides_nothing(folder: Path) -> None:
    several(folder)
    (folder / "data/08_reporting/old/records/x.json").write_text("{")
    (line,) = (ln for ln in invoke().splitlines() if ln.startswith("old (finished): "))
    assert "x.json is not readable JSON" in line
    (path,) = (folder / "data/08_reporting/new/records").glob("*.json")
    path.write_text("[]")
    make_run(folder, "a b", make_record())
    found = {run["name"]: run["status"] for run in json.loads(invoke("--json"))}
    states = ("unreadable", "unreadable", "failed", "finished")
    assert found == dict(zip(("a b", "new", "broken", "old"), states, strict=True))
    (manifest,) = folder.rglob("image_manifest.parquet")
    manifest.write_bytes(b"no table")
    assert "old (finished): " in (text := invoke()) and f"{manifest} is not" in text


def test_a_summary_has_the_key_numbers(folder: Path) -> None:
    rows = [row("last", 3.0), row("combined", 2.0, std=None)]
    make_run(folder, "a", make_record(), rows=rows, steps=(5, 60))
    summary = summarise(find_run(folder, "a"))
    (said,) = json.loads(invoke("--json"))
    assert said == asdict(summary)
    assert summary.values == {
        "last": {"value": 3.0, "std": 0.1},
        "combined": {"value": 2.0, "std": None},
    }
    assert (summary.num_steps, summary.planned_steps) == (60, 60)
    assert (summary.num_images, summary.minutes) == (SPLITS["train"], 1.0)
    assert summary.recipe == "smoke"
    assert summary.mebibytes == pytest.approx(2, abs=0.1)
    assert summary.headline is not None and "classifier" in summary.headline


def test_key_values_are_of_trained_models_at_the_fewest_evaluations_by_one_protocol() -> (
    None
):
    validation = {"reference": "the validation split", "protocol": "22222222"}
    rows = [
        row("last", 9.0, **validation),
        row("last", 3.0),
        row("last", 1.0, nfe=2),
        row("last", 0.5, metric="precision"),
        row("last", 0.1, metric="classifier_frechet_distance_infinity"),
        row("last", 8.0, extractor="dinov2", protocol="33333333"),
        row("gaussian_latents", 7.0, nfe=0),
        row("best_ema", 2.0),
    ]
    found = {(each.model, each.value) for each in key_rows(rows)}
    assert found == {("last", 3.0), ("best_ema", 2.0)}
    assert key_rows([row("last", 4.0, nfe=5, metric="fid")])[0].nfe == 5
    assert key_rows([]) == []


def test_the_smoke_run_is_found_with_its_values(results: SmokeResults) -> None:
    run = find_run(results.project, "tested")
    assert run.rows == results.catalog.load("evaluation").rows
    summary = summarise(run)
    by_model = {
        each.model: each.value
        for each in run.rows
        if each.nfe == 1 and each.metric == "classifier_frechet_distance"
    }
    assert {m: f["value"] for m, f in summary.values.items()} == by_model
    assert (summary.status, summary.recipe) == ("finished", "smoke")
    assert summary.num_steps == results.parameters.training.num_steps
    manifest = results.catalog.load("image_manifest")
    assert run.images_by_split() == dict(manifest["split"].value_counts())
    assert summary.num_images == len(manifest[manifest["split"] == "train"])


def test_nothing_of_a_run_steers_the_terminal(
    folder: Path,
) -> None:
    """Values of records and rows may be of anyone who shares the disk."""
    evil = dict.fromkeys(("error", "device", "machine", "python"), HOSTILE)
    record = make_record(**evil, status="failed")
    record["parameters"]["ingestion"]["source"] = HOSTILE
    values = {"metric": f"{HOSTILE}_fid", "extractor": HOSTILE, "reference": HOSTILE}
    rows = [row("last", 1.0, **values)]
    make_run(folder, "a", record, rows=rows)
    other = row("last", 2.0, **values, protocol="other")
    make_run(folder, "b", make_record(started=LATER), rows=[other])
    for command in (["runs"], ["diff", "b", "a", "--all"]):
        done = CliRunner().invoke(cli, ["lct", *command], color=True)
        assert done.exit_code == 0, done.output
        said = re.sub(r"\x1b\[(\d;?)+m", "", done.output)  # our own styles
        assert steers_no_terminal(said) and "\N{COLLISION SYMBOL}" not in said
        assert r"\x1b[31m" in said and said.count(":boom:") == said.count("[red]") > 0
