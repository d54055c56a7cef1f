"""Reading what runs left."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from making_runs import make_record, make_run

from lct_pipeline.errors import DataError, UserError
from lct_pipeline.runs.reading import find_run, find_runs

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


def test_checkpoints_without_a_record_are_an_imported_run(tmp_path: Path) -> None:
    make_run(tmp_path, "theirs", steps=(5,))
    (run,) = find_runs(tmp_path)
    assert (run.status, run.num_steps, run.seconds) == ("imported", 5, 0)
    assert (run.recipe, run.images_by_split()) == (None, {})


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


def test_the_newest_record_that_knows_the_images_says_so(tmp_path: Path) -> None:
    later = make_record(started=LATER, inputs={})
    make_run(tmp_path, "a", make_record(), later)
    assert find_run(tmp_path, "a").fingerprint == "f" * 64
    make_run(tmp_path, "b", later)
    assert find_run(tmp_path, "b").fingerprint is None


def test_a_run_of_another_version_is_listed_and_not_used(tmp_path: Path) -> None:
    make_run(tmp_path, "old", make_record(**{"parameters.training.betas": [0.9]}))
    assert names(tmp_path) == ["old"]
    with pytest.raises(UserError, match="Another version of lct_pipeline made the run"):
        find_run(tmp_path, "old")
