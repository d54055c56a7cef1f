"""Reading what runs left, their key numbers, and how two of them differ."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from made_results import row
from making_runs import SPLITS, make_record, make_run

from conftest import SmokeResults, git
from lct_pipeline.errors import DataError, UserError
from lct_pipeline.runs.diff import Result, compare, differences, flatten
from lct_pipeline.runs.reading import Run, find_run, find_runs
from lct_pipeline.runs.summary import key_rows, summarise
from lct_pipeline.runs.tracking import metrics_of, tracked

LATER = "2026-03-02T10.00.00.000Z"
MUCH_LATER = "2026-03-03T10.00.00.000Z"


def gone_process() -> int:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def names(project: Path) -> list[str]:
    return [run.name for run in find_runs(project)]


def test_runs_are_found_newest_first(tmp_path: Path) -> None:
    make_run(tmp_path, "first", make_record())
    make_run(tmp_path, "third", make_record(started=MUCH_LATER, ended=MUCH_LATER))
    make_run(tmp_path, "second", make_record(started=LATER, ended=LATER))
    assert names(tmp_path) == ["third", "second", "first"]


def test_folders_of_autoencoders_and_extractors_are_no_runs(tmp_path: Path) -> None:
    (tmp_path / "data/06_models/digits-1/autoencoder").mkdir(parents=True)
    (tmp_path / "data/08_reporting/digits-1").mkdir(parents=True)
    assert names(tmp_path) == []


def test_no_data_means_no_runs(tmp_path: Path) -> None:
    assert find_runs(tmp_path) == []


def test_checkpoints_without_a_record_are_an_imported_run(tmp_path: Path) -> None:
    make_run(tmp_path, "theirs", steps=(5,))
    (run,) = find_runs(tmp_path)
    assert (run.status, run.num_steps, run.seconds) == ("imported", 5, 0)
    summary = summarise(run)
    assert (summary.recipe, summary.num_images, summary.planned_steps) == (None,) * 3


def test_an_unknown_run_is_told_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no run 'a', nor any other yet: `kedro run`"):
        find_run(tmp_path, "a")
    make_run(tmp_path, "b", make_record())
    with pytest.raises(UserError, match=r"no run 'a'; there are: b\."):
        find_run(tmp_path, "a")


@pytest.mark.parametrize("status", ["finished", "failed"])
def test_the_status_is_that_of_the_last_session(tmp_path: Path, status: str) -> None:
    last = make_record(started=LATER, ended=LATER, status=status)
    make_run(tmp_path, "a", make_record(status="failed"), last)
    assert find_run(tmp_path, "a").status == status


def test_a_running_session_without_its_process_was_interrupted(tmp_path: Path) -> None:
    running = make_record(status="running", ended=None)
    make_run(tmp_path, "alive", running)
    make_run(tmp_path, "killed", {**running, "process": gone_process()})
    assert find_run(tmp_path, "alive").status == "running"
    assert find_run(tmp_path, "killed").status == "interrupted"


def test_time_is_of_all_sessions_and_of_an_open_one_that_of_its_nodes(
    tmp_path: Path,
) -> None:
    open_one = make_record(started=LATER, ended=None, status="running")
    make_run(tmp_path, "a", make_record(), open_one)
    assert find_run(tmp_path, "a").seconds == 60 + 90


@pytest.mark.parametrize("text", ['{"rows"', "[]", '{"rows": [{}]}'])
def test_a_damaged_evaluation_is_named(tmp_path: Path, text: str) -> None:
    make_run(tmp_path, "a", make_record())
    (tmp_path / "data/08_reporting/a/evaluation.json").write_text(text)
    with pytest.raises(DataError, match=r"evaluation\.json is not a readable"):
        _ = find_run(tmp_path, "a").rows


def test_the_newest_record_that_knows_a_value_says_it(tmp_path: Path) -> None:
    later = make_record(started=LATER, inputs={})
    make_run(tmp_path, "a", make_record(), later)
    assert find_run(tmp_path, "a").newest("inputs", "image_source") == "f" * 64
    assert find_run(tmp_path, "a").newest("inputs", "nothing") is None


def test_a_summary_has_the_key_numbers(tmp_path: Path) -> None:
    rows = [row("last", 3.0), row("combined", 2.0, std=None)]
    make_run(tmp_path, "a", make_record(), rows=rows, steps=(5, 60))
    summary = summarise(find_run(tmp_path, "a"))
    assert summary.figures == {
        "last": {"value": 3.0, "std": 0.1},
        "combined": {"value": 2.0, "std": None},
    }
    assert (summary.num_steps, summary.planned_steps) == (60, 60)
    assert (summary.num_images, summary.minutes) == (SPLITS["train"], 1.0)
    assert summary.recipe == "smoke"
    assert summary.mebibytes == pytest.approx(2, abs=0.1)
    assert summary.headline is not None and "classifier" in summary.headline


@pytest.mark.parametrize("env", [None, "local"])
def test_without_a_recipe_it_is_the_base(tmp_path: Path, env: str | None) -> None:
    make_run(tmp_path, "a", make_record(env=env))
    assert summarise(find_run(tmp_path, "a")).recipe == "base"


def test_key_figures_are_of_trained_models_at_the_fewest_evaluations_by_one_protocol() -> (
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


def test_the_smoke_run_is_found_with_its_figures(results: SmokeResults) -> None:
    run = find_run(results.project, "tested")
    assert run.rows == results.catalog.load("evaluation").rows
    summary = summarise(run)
    by_model = {
        each.model: each.value
        for each in run.rows
        if each.nfe == 1 and each.metric == "classifier_frechet_distance"
    }
    assert {m: f["value"] for m, f in summary.figures.items()} == by_model
    assert (summary.status, summary.recipe) == ("finished", "smoke")
    assert summary.num_steps == results.parameters.training.num_steps
    manifest = results.catalog.load("image_manifest")
    assert run.images_by_split() == dict(manifest["split"].value_counts())
    assert summary.num_images == len(manifest[manifest["split"] == "train"])


def test_flat_values_have_dotted_names_and_lists_stay() -> None:
    assert flatten({"a": {"b": 1, "c": {"d": [1, 2]}}}) == {"a.b": 1, "a.c.d": [1, 2]}


def test_differences_are_of_both_sides() -> None:
    a, b = {"x": 1, "y": {"z": 2}}, {"x": 1, "y": {"z": 3}, "w": 4}
    assert differences(a, b) == {"y.z": (2, 3), "w": (None, 4)}
    assert differences(a, a) == {}


def compared(project: Path, **changes: Any) -> Any:
    make_run(project, "a", make_record(), rows=[row("last", 3.0)])
    make_run(project, "b", make_record(**changes), rows=[row("last", 2.0)])
    return compare(find_run(project, "a"), find_run(project, "b"))


def test_equal_runs_differ_in_nothing_but_their_name(tmp_path: Path) -> None:
    found = compared(tmp_path, **{"parameters.run_id": "b"})
    groups = ("parameters", "runtime", "data", "code", "versions", "device")
    assert not any(getattr(found, group) for group in groups)


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
    found = compared(tmp_path, **changes)
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
    assert compared(tmp_path, inputs={}).data == {}


def test_git_tells_what_changed_in_sources_and_recipes(repository: Path) -> None:
    (repository / "src").mkdir()
    (repository / "src" / "code.py").write_text("a = 1\n")
    (repository / "notes.txt").write_text("not of interest")
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message=second")
    make_run(
        repository, "a", make_record(commit=git(repository, "rev-parse", "HEAD~1"))
    )
    make_run(repository, "b", make_record(commit=git(repository, "rev-parse", "HEAD")))
    changes = compare(find_run(repository, "a"), find_run(repository, "b")).changes
    assert changes is not None
    assert "src/code.py" in changes[0]
    assert not any("notes" in line for line in changes)


@pytest.mark.parametrize("commit", ["b" * 40, None])
def test_a_commit_from_elsewhere_has_no_statistics(
    repository: Path, commit: str | None
) -> None:
    assert compared(repository, commit=commit).changes is None


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


def test_a_difference_is_beyond_the_spread_of_both() -> None:
    assert result(3.0, 4.01).is_beyond_spread  # 2 * sqrt(0.3^2 + 0.4^2) = 1
    assert not result(3.0, 3.99).is_beyond_spread
    assert result(3.0, 9.0, stds=(0.3, None)).is_beyond_spread is None


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


def test_figures_of_unequal_protocols_cannot_be_compared() -> None:
    assert result(1.0, 2.0).is_comparable
    assert not result(1.0, 2.0, protocols=("1", "2")).is_comparable


def test_results_are_of_the_figures_of_both_and_trained_models_come_first(
    tmp_path: Path,
) -> None:
    a = [
        row("gaussian_latents", 9.0, nfe=0),
        row("last", 3.0),
        row("x", 1),
    ]
    b = [row("last", 2.0), row("gaussian_latents", 8.0, nfe=0)]
    make_run(tmp_path, "a", make_record(), rows=a)
    make_run(tmp_path, "b", make_record(), rows=b)
    found = compare(find_run(tmp_path, "a"), find_run(tmp_path, "b")).results
    assert [r.model for r in found] == ["last", "gaussian_latents"]
    assert [r.difference for r in found] == [-1.0, -1.0]


def with_training(project: Path, name: str, *records: dict[str, Any]) -> Run:
    make_run(project, name, *records, rows=[row("last", 3.0)])
    folder = project / "data" / "06_models" / name / "training_metrics"
    folder.mkdir()
    for first in (1, 3):
        steps = [first, first + 1]
        table = pd.DataFrame({"step": steps, "loss": [0.5, float("nan")], "text": "no"})
        table.to_parquet(folder / f"part-{first}.parquet")
    return find_run(project, name)


def test_a_tracker_gets_each_parameter_as_it_is_typed(tmp_path: Path) -> None:
    entry = tracked(with_training(tmp_path, "a", make_record()))
    assert entry.parameters["training.num_steps"] == "60"
    assert entry.parameters["training.objective.kind"] == "consistency"
    assert entry.parameters["training.ema.rates"] == "[0.9, 0.95]"
    assert entry.parameters["encoding.autoencoder"] == "null"
    assert not any(name.startswith("runtime") for name in entry.parameters)
    assert entry.tags["lct.runtime.num_threads"] == "1"


def test_a_tracker_gets_figures_histories_and_files(tmp_path: Path) -> None:
    run = with_training(tmp_path, "a", make_record())
    (run.reporting / "report.html").write_text("report")
    (run.reporting / "table.parquet").write_text("")
    entry = tracked(run)
    name = "last/1/classifier/frechet_distance"
    assert entry.metrics == {name: 3.0, f"{name}_std": 0.1}
    assert entry.histories == {"training/loss": [(1, 0.5), (3, 0.5)]}
    files = [(path.name, folder) for path, folder in entry.artifacts]
    record = ("2026-03-01T10.00.00.000Z.json", "records")
    assert files == [("evaluation.json", None), ("report.html", None), record]
    assert entry.ended is not None and entry.ended - entry.started == 60_000


def test_the_entry_is_that_of_name_and_parameters(tmp_path: Path) -> None:
    changes = {"parameters.runtime.num_threads": 2}
    make_run(tmp_path, "a", make_record())
    make_run(tmp_path, "b", make_record(**changes))
    first = tracked(find_run(tmp_path, "a")).identity
    assert tracked(find_run(tmp_path, "b")).identity == first.replace("a-", "b-", 1)
    path = next((tmp_path / "data/08_reporting/a/records").glob("*.json"))
    path.write_text(json.dumps(make_record(**{"parameters.training.num_steps": 80})))
    assert tracked(find_run(tmp_path, "a")).identity != first


@pytest.mark.parametrize(
    ("status", "word"), [("finished", "FINISHED"), ("failed", "FAILED")]
)
def test_a_status_is_said_in_the_words_of_mlflow(
    tmp_path: Path, status: str, word: str
) -> None:
    make_run(tmp_path, "a", make_record(status=status))
    assert tracked(find_run(tmp_path, "a")).status == word


def test_figures_against_several_references_have_names_of_their_own() -> None:
    rows = [
        row("last", 3.0, std=None),
        row("last", 4.0, std=None, protocol="2"),
    ]
    name = "last/1/classifier/frechet_distance"
    assert metrics_of(rows) == {name: 3.0, f"{name}/2": 4.0}


def test_weights_from_elsewhere_cannot_be_logged(tmp_path: Path) -> None:
    make_run(tmp_path, "theirs", steps=(5,))
    with pytest.raises(UserError, match="theirs has no record"):
        tracked(find_run(tmp_path, "theirs"))
