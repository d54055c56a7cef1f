"""``kedro lct diff A B``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from made_results import row
from making_runs import make_record, make_run

from lct_pipeline.cli import cli
from lct_pipeline.datasets.results import EvaluationRow


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def invoke(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(cli, ["lct", "diff", *words])
    assert result.exit_code == code, result.output
    return result.output


def two_runs(project: Path, rows: list[EvaluationRow], **changes: Any) -> None:
    """Make run a with a Frechet distance of 3, and run b with changes and rows."""
    make_run(project, "a", make_record(), rows=[row("last", 3.0)])
    make_run(project, "b", make_record(**changes), rows=rows)


def test_what_is_equal_is_said_in_a_line_each(folder: Path) -> None:
    two_runs(folder, [row("last", 3.0)])
    lines = invoke("a", "b").splitlines()
    assert "Parameters: equal" in lines
    assert "Data: equal (6 train + 3 validation + 2 test)" in lines
    assert "Code: equal (commit aaaaaaaaaa)" in lines
    assert "Versions: equal" in lines
    assert "Device: equal (cpu)" in lines
    assert any(line.startswith("Last checkpoint") and "equal" in line for line in lines)


def test_parameters_are_told_by_name_from_a_to_b(folder: Path) -> None:
    changes = {
        "parameters.training.num_steps": 80,
        "parameters.encoding.autoencoder": "models/vae",
        "parameters.training.ema.rates": [0.9],
        "parameters.runtime.num_threads": 4,
    }
    two_runs(folder, [row("last", 3.0)], **changes)
    text = invoke("a", "b")
    assert "Parameters: 3 differ" in text
    assert "training.num_steps    60 -> 80" in text
    assert "encoding.autoencoder  null -> models/vae" in text
    assert "training.ema.rates    [0.9, 0.95] -> [0.9]" in text
    assert (
        "Runtime, on which no result depends: 1 differs\n  runtime.num_threads  1 -> 4"
        in text
    )


@pytest.mark.parametrize(
    ("value", "verdict"),
    [(2.9, "within the noise"), (2.0, "B is better"), (4.0, "A is better")],
)
def test_a_difference_has_a_verdict(folder: Path, value: float, verdict: str) -> None:
    two_runs(folder, [row("last", value)])
    text = invoke("a", "b")
    (line,) = (line for line in text.splitlines() if line.startswith("Last checkpoint"))
    assert line.rstrip().endswith(verdict)
    assert f"{value - 3.0:+.3g}" in line
    assert "over seeds of" in text


def test_values_made_otherwise_are_not_compared(folder: Path) -> None:
    other = row("last", 1.0, protocol="22222222", num_generated=50_000)
    two_runs(folder, [other])
    text = invoke("a", "b")
    assert "made differently" in text
    assert "-2" not in text.partition("Results")[2].partition("cannot be compared")[0]
    assert "A  classifier, 2,000 images against" in text
    assert "B  classifier, 50,000 images against" in text


def test_controls_and_other_metrics_are_shown_on_request(folder: Path) -> None:
    rows = [
        row("last", 3.0),
        row("gaussian_latents", 9.0, nfe=0),
        row("last", 0.5, metric="precision"),
        row("last", 0.4, metric="coverage"),
    ]
    make_run(folder, "a", make_record(), rows=rows)
    make_run(folder, "b", make_record(), rows=rows)
    assert "Coverage" not in invoke("a", "b") and "Precision" in invoke("a", "b")
    assert "No model" not in invoke("a", "b")
    everything = invoke("a", "b", "--all")
    assert "Coverage" in everything and "No model" in everything


def test_a_run_that_was_not_evaluated_is_named(folder: Path) -> None:
    make_run(folder, "a", make_record(), rows=[row("last", 3.0)])
    make_run(folder, "b", make_record())
    assert "Results: b was not evaluated: `kedro run --pipeline=evaluate`" in invoke(
        "a", "b"
    )


def test_it_fits_100_columns_without_colours(folder: Path) -> None:
    rows = [row("best_ema", 1.0, extractor="check_rotation_classifier")]
    make_run(folder, "a", make_record(), rows=rows)
    make_run(folder, "b", make_record(), rows=rows)
    text = invoke("a", "b", "--all")
    assert max(map(len, text.splitlines())) <= 100
    assert "\x1b" not in text


def test_an_unknown_run_ends_with_one_message(folder: Path) -> None:
    two_runs(folder, [])
    text = invoke("a", "c", code=1)
    assert text == "Error: There is no run 'c'; there are: b, a.\n"


def test_programs_get_every_difference(folder: Path) -> None:
    two_runs(folder, [row("last", 2.0)], **{"parameters.training.num_steps": 80})
    found = json.loads(invoke("a", "b", "--json"))
    assert found["parameters"] == {"training.num_steps": [60, 80]}
    assert found["results"][0]["values"] == [3.0, 2.0]
