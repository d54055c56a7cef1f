"""How two runs differ, and ``kedro lct diff A B``, which says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from making_runs import make_record, make_run, row

from conftest import git
from lct_pipeline.cli import cli
from lct_pipeline.datasets.results import EvaluationRow
from lct_pipeline.errors import DataError, UserError
from lct_pipeline.runs.diff import Comparison, Result, compare
from lct_pipeline.runs.reading import find_run


def two_runs(
    project: Path,
    rows: list[EvaluationRow] | None = None,
    others: list[EvaluationRow] | None = None,
    **changes: Any,
) -> None:
    """Make run a with a Frechet distance of 3 unless it has other rows, and run b with changes."""
    rows = [row("last", 3.0)] if rows is None else rows
    make_run(project, "a", make_record(), rows=rows)
    make_run(project, "b", make_record(**changes), rows=others or rows)


def compared(project: Path) -> Comparison:
    return compare(find_run(project, "a"), find_run(project, "b"))


def said(*words: str, a: str = "a", b: str = "b", code: int = 0) -> str:
    """Return what the command says of two runs in the working folder."""
    result = CliRunner().invoke(cli, ["lct", "diff", a, b, *words])
    assert result.exit_code == code, result.output
    return result.output


def test_each_difference_is_in_its_group(tmp_path: Path) -> None:
    changes = {
        "parameters.training.num_steps": 80,
        "parameters.runtime.num_threads": 2,
        "inputs.image_source": "0" * 64,
        "dirty": True,
        "versions.torch": "2.14.0",
        "python": "3.12.0",
        "device": "cuda",
    }
    two_runs(tmp_path, **changes)
    found = compared(tmp_path)
    assert found.parameters == {"training.num_steps": (60, 80)}
    assert found.runtime == {"runtime.num_threads": (1, 2)}
    assert found.data == {"fingerprint": ("f" * 64, "0" * 64)}
    assert found.code == {"dirty": (False, True)}
    assert found.versions == {
        "python": ("3.11.7", "3.12.0"),
        "torch": ("2.13.0", "2.14.0"),
    }
    assert found.device == {"device": ("cpu", "cuda")}


def test_what_an_interrupted_run_does_not_know_is_no_difference(tmp_path: Path) -> None:
    two_runs(tmp_path, inputs={})
    assert compared(tmp_path).data == {}


def test_git_tells_what_changed_in_sources_and_recipes(repository: Path) -> None:
    (repository / "src").mkdir()
    (repository / "src" / "code.py").write_text("a = 1\n")
    (repository / "notes.txt").write_text("not of interest")
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message=second")
    for name, commit in (("a", "HEAD~1"), ("b", "HEAD")):
        record = make_record(commit=git(repository, "rev-parse", commit))
        make_run(repository, name, record)
    changes = compared(repository).changes
    assert changes is not None
    assert "src/code.py" in changes[0]
    assert not any("notes" in line for line in changes)


@pytest.mark.parametrize("commit", ["b" * 40, None])
def test_a_commit_from_elsewhere_has_no_statistics(
    repository: Path, commit: str | None
) -> None:
    two_runs(repository, commit=commit)
    assert compared(repository).changes is None


def test_a_commit_that_is_none_reaches_no_git(repository: Path) -> None:
    """Git would take this one for an option, and write its statistics over the file."""
    two_runs(repository, commit=f"--output={repository}/tracked.txt")
    with pytest.raises(DataError, match=r"records.*\.json is not .*\(commit='--output"):
        compared(repository)
    assert (repository / "tracked.txt").read_text() == "one"
    assert find_run(repository, "a").is_there


@pytest.mark.parametrize("name", ["../other/data/08_reporting/b", "a b", "", "b\n"])
def test_a_name_that_leads_elsewhere_is_no_run(tmp_path: Path, name: str) -> None:
    two_runs(tmp_path / "other")
    make_run(tmp_path, "a", make_record())
    with pytest.raises(UserError, match="is no name of a run"):
        find_run(tmp_path, name)


def result(a: float, b: float, **changes: Any) -> Result:
    values = {
        "model": "last",
        "nfe": 1,
        "metric": "classifier_frechet_distance",
        "extractor": "classifier",
        "values": (a, b),
        "stds": (0.3, 0.4),
        "protocols": ("1", "1"),
    }
    return Result(**{**values, **changes})


def test_a_difference_is_beyond_the_noise_of_both() -> None:
    assert result(3.0, 4.01).is_beyond_noise  # 2 * sqrt(0.3^2 + 0.4^2) = 1
    assert not result(3.0, 3.99).is_beyond_noise
    assert result(3.0, 9.0, stds=(0.3, None)).is_beyond_noise is None


@pytest.mark.parametrize(
    ("metric", "better"),
    [
        ("fid", "A"),
        ("fid_infinity", "A"),
        ("classifier_kernel_distance", "A"),
        ("precision", "B"),
        ("inception_score", "B"),
    ],
)
def test_less_is_better_of_distances_alone(metric: str, better: str) -> None:
    assert result(1.0, 2.0, metric=metric).better == better
    assert result(1.0, 1.0, metric=metric).better is None


def test_results_are_of_the_values_of_both_and_trained_models_come_first(
    tmp_path: Path,
) -> None:
    a = [row("gaussian_latents", 9.0, nfe=0), row("last", 3.0), row("x", 1)]
    b = [row("last", 2.0), row("gaussian_latents", 8.0, nfe=0)]
    two_runs(tmp_path, a, b)
    found = compared(tmp_path).results
    assert [r.model for r in found] == ["last", "gaussian_latents"]
    assert [r.difference for r in found] == [-1.0, -1.0]


def test_what_is_equal_is_said_in_a_line_each(folder: Path) -> None:
    two_runs(folder)
    (folder / "data/08_reporting/b/records/none.json").write_text("[]")
    lines = said().splitlines()
    assert lines[0].startswith("Left out: ") and "none.json is not the" in lines[0]
    assert {
        "Parameters: equal",
        "Data: equal (6 train + 3 validation + 2 test)",
        "Code: equal (commit aaaaaaaaaa)",
        "Versions: equal",
        "Device: equal (cpu)",
    } <= {*lines}
    assert any(line.startswith("Last checkpoint") and "equal" in line for line in lines)


def test_parameters_are_told_by_name_from_a_to_b(folder: Path) -> None:
    changes = {
        "parameters.training.num_steps": 80,
        "parameters.encoding.autoencoder": "models/vae",
        "parameters.training.ema.rates": [0.9],
        "parameters.runtime.num_threads": 4,
    }
    two_runs(folder, **changes)
    text = said()
    assert "Parameters: 3 differ" in text
    assert "training.num_steps    60 -> 80" in text
    assert "encoding.autoencoder  null -> models/vae" in text
    assert "training.ema.rates    [0.9, 0.95] -> [0.9]" in text
    assert "no result depends: 1 differs\n  runtime.num_threads  1 -> 4" in text
    found = json.loads(said("--json"))
    assert found["parameters"]["training.num_steps"] == [60, 80]
    assert found["results"][0]["values"] == [3.0, 3.0]


@pytest.mark.parametrize(
    ("value", "verdict"),
    [(2.9, "within the noise"), (2.0, "B is better"), (4.0, "A is better")],
)
def test_a_difference_has_a_verdict(folder: Path, value: float, verdict: str) -> None:
    two_runs(folder, others=[row("last", value)])
    text = said()
    (line,) = (line for line in text.splitlines() if line.startswith("Last checkpoint"))
    assert line.rstrip().endswith(verdict)
    assert f"{value - 3.0:+.3g}" in line
    assert "over seeds of" in text


def test_values_made_otherwise_are_not_compared(folder: Path) -> None:
    other = row("last", 1.0, protocol="22222222", num_generated=50_000)
    two_runs(folder, others=[other])
    text = said()
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
        row("best_ema", 1.0, extractor="check_rotation_classifier"),
    ]
    two_runs(folder, rows)
    text, everything = (said(*more) for more in ((), ("--all",)))
    assert "Precision" in text
    for name in ("Coverage", "No model", "check_rotation"):
        assert name not in text and name in everything
    assert max(map(len, everything.splitlines())) <= 100
    assert "\x1b" not in everything


def test_a_run_that_was_not_evaluated_is_named(folder: Path) -> None:
    make_run(folder, "a", make_record(), rows=[row("last", 3.0)])
    make_run(folder, "b", make_record())
    text = said()
    how = "`kedro run --pipeline=evaluate --env=smoke --params=run_id=b`"
    assert f"Results: b was not evaluated: {how}" in text


def test_an_unknown_run_ends_with_one_message(folder: Path) -> None:
    two_runs(folder)
    text = said(b="c", code=1)
    assert text == "Error: There is no run 'c'; there are: b, a.\n"
