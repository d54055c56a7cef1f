"""Runs in MLflow: what is asked of it where it is not installed, and what it keeps where it is."""

from __future__ import annotations

import importlib.util
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner
from configuration import recipe
from making_runs import make_record, make_run, row

from conftest import run_stages
from lct_pipeline.cli import cli
from lct_pipeline.errors import UserError
from lct_pipeline.runs.mlflow_store import (
    IDENTITY,
    log_run,
    metrics_of,
    opened,
    parameters_of,
    shown_files,
    texts,
    training_rows,
)
from lct_pipeline.runs.reading import Run, find_run

needs_mlflow = pytest.mark.skipif(
    importlib.util.find_spec("mlflow") is None,
    reason="MLflow is not installed: pip install 'lct_pipeline[mlflow]'",
)
VALUE = "last/1/classifier/frechet_distance"


@pytest.fixture
def without_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of an empty MLflow: making one takes seconds, copying it does not."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def store(folder: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(empty_store, folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    return folder


def entries() -> list[Any]:
    """Return what MLflow has."""
    client, experiment = store_of()
    return list(client.search_runs([experiment]))


def store_of() -> tuple[Any, str]:
    with opened() as (mlflow, experiment):
        return mlflow.MlflowClient(), experiment


def made(project: Path, name: str = "a", value: float = 3.0, **changes: Any) -> Run:
    make_run(project, name, make_record(**changes), rows=[row("last", value)])
    return find_run(project, name)


def test_without_mlflow_the_command_says_what_to_install(
    folder: Path, without_mlflow: None
) -> None:
    made(folder)
    result = CliRunner().invoke(cli, ["lct", "mlflow", "a"])
    assert result.exit_code == 1
    assert result.output == (
        "Error: MLflow is not installed: pip install 'lct_pipeline[mlflow]'.\n"
    )


@pytest.mark.usefixtures("folder")
def test_without_runs_the_command_says_how_to_make_one() -> None:
    result = CliRunner().invoke(cli, ["lct", "mlflow"])
    assert result.exit_code == 1 and "`kedro run` makes one" in result.output


def test_without_mlflow_a_run_that_is_to_be_logged_does_not_begin(
    project: Path, without_mlflow: None
) -> None:
    with pytest.raises(UserError, match="MLflow is not installed"):
        run_stages(project, "ingest", runtime={"mlflow": True})
    assert not (project / "data" / "02_intermediate").exists()


def test_the_environment_switches_it_on_and_nothing_else() -> None:
    base, mlflow = recipe("base"), recipe("mlflow")
    assert not base.runtime.mlflow
    runtime = base.runtime.model_copy(update={"mlflow": True})
    assert mlflow == base.model_copy(update={"runtime": runtime})


def test_parameters_are_said_as_they_are_typed(tmp_path: Path) -> None:
    found = texts(parameters_of(made(tmp_path)))
    assert found["training.num_steps"] == "60"
    assert found["training.objective.kind"] == "consistency"
    assert found["training.ema.rates"] == "[0.9, 0.95]"
    assert found["encoding.autoencoder"] == "null"
    assert not any(name.startswith("runtime") for name in found)


def test_values_against_several_references_have_names_of_their_own(
    tmp_path: Path,
) -> None:
    rows = [row("last", 3.0), row("last", 4.0, std=None, protocol="2")]
    make_run(tmp_path, "a", make_record(), rows=rows)
    found = metrics_of(find_run(tmp_path, "a"))
    assert found == {VALUE: 3.0, f"{VALUE}_std": 0.1, f"{VALUE}/2": 4.0}


def test_training_metrics_are_the_finite_numbers_by_step(tmp_path: Path) -> None:
    run = made(tmp_path)
    (run.models / "training_metrics").mkdir()
    for first in (1, 3):
        values = {"step": [first, first + 1], "loss": [0.5, math.nan], "text": "no"}
        table = pd.DataFrame(values)
        table.to_parquet(run.models / "training_metrics" / f"part-{first}.parquet")
    loss = {"training/loss": 0.5}
    assert list(training_rows(run)) == [(1, loss), (2, {}), (3, loss), (4, {})]


def test_weights_from_elsewhere_cannot_be_logged(tmp_path: Path) -> None:
    make_run(tmp_path, "theirs", steps=(5,))
    with pytest.raises(UserError, match="theirs has no record"):
        log_run(find_run(tmp_path, "theirs"))


def test_a_link_is_not_handed_on(tmp_path: Path) -> None:
    """It may lead out of the run, to what is nobody else's business."""
    for name in ("secret", "report.html", "notes.txt"):
        (tmp_path / name).write_text("text")
    (tmp_path / "evaluation.json").symlink_to(tmp_path / "secret")
    assert shown_files(tmp_path) == [tmp_path / "report.html"]


@needs_mlflow
def test_parameters_can_be_searched_by_their_names(store: Path) -> None:
    log_run(made(store, "short"))
    log_run(made(store, "long", **{"parameters.training.num_steps": 80}))
    client, experiment = store_of()
    for steps, name in (("60", "short"), ("80", "long")):
        query = f"params.`training.num_steps` = '{steps}'"
        (found,) = client.search_runs([experiment], query)
        assert found.info.run_name == name


@needs_mlflow
def test_a_second_time_the_same_entry_is_brought_up_to_date(store: Path) -> None:
    run = made(store)
    first = log_run(run)
    assert log_run(Run("a", store)) == first
    client, _ = store_of()
    assert [m.value for m in client.get_metric_history(first, VALUE)] == [3.0]

    text = (run.reporting / "evaluation.json").read_text().replace("3.0", "2.0")
    (run.reporting / "evaluation.json").write_text(text)
    assert log_run(Run("a", store)) == first
    assert client.get_run(first).data.metrics[VALUE] == 2.0
    assert len(entries()) == 1


@needs_mlflow
def test_curves_values_tags_status_and_files_are_kept(
    store: Path, smoke_run: Path
) -> None:
    run = find_run(smoke_run, "tested")
    client, _ = store_of()
    for _ in range(2):  # no point twice
        entry = client.get_run(log_run(run))
    losses = client.get_metric_history(entry.info.run_id, "training/loss")
    assert [m.step for m in losses] == list(range(5, 61, 5))
    assert entry.info.status == "FINISHED"
    assert entry.data.tags["lct.recipe"] == "smoke"
    assert entry.data.tags[IDENTITY].startswith("tested-")
    files = {file.path for file in client.list_artifacts(entry.info.run_id)}
    assert {"evaluation.json", "sample_grid.png", "records"} <= files


@needs_mlflow
def test_a_failed_session_is_logged_as_failed_with_its_own_error(
    store: Path, project: Path
) -> None:
    broken = project / "broken"
    broken.mkdir()
    (broken / "notes.jpg").write_text("not an image")
    run: dict[str, Any] = {"run_id": "a", "runtime": {"mlflow": True}}
    with pytest.raises(Exception, match=r"notes\.jpg"):
        run_stages(project, "ingest", **run, ingestion={"source": str(broken)})
    (entry,) = entries()
    assert (entry.info.run_name, entry.info.status) == ("a", "FAILED")
    assert "notes.jpg" in entry.data.tags["lct.error"]


@needs_mlflow
def test_an_experiment_may_be_named(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    log_run(made(store))
    client, experiment = store_of()
    assert client.get_experiment(experiment).name == "mine"
    assert len(entries()) == 1
