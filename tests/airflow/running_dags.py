"""The exported DAGs in Airflow, at smoke size: `make test-airflow`, not part of the suite.

The tests stand in the order in which they run, in one project folder.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import yaml
from airflow_instance import AirflowInstance, wait_for
from PIL import Image
from sklearn.datasets import load_digits

from conftest import ROOT, copy_project
from lct_pipeline.datasets.run_records import Record, read_records
from lct_pipeline.pipeline_registry import register_pipelines

logger = logging.getLogger(__name__)

PIPELINES = ["__default__", "train", "combine", "evaluate"]
NUM_IMAGES = 600
# a training of some seconds, to be killed in its middle, and the shortest of all else
SMALL = {
    "training.num_steps": 400,
    "training.checkpoint_interval": 20,
    "encoding.trained.num_steps": 2,
    "combination.search.methods": "[random]",
    "combination.search.num_evaluations": 10,
    "combination.num_line_points": 2,
    "evaluation.num_seeds": 1,
}
CHANGED = "training.num_steps=60"
FOLDER = "it's 'a' $HOME `b`"  # a shell would make something of it


def dag_of(pipeline: str) -> str:
    return "lct_pipeline" if pipeline == "__default__" else f"lct_pipeline_{pipeline}"


def add_images(folder: Path, numbers: range) -> None:
    folder.mkdir(exist_ok=True)
    digits = load_digits().images
    for number in numbers:
        pixels = (digits[number] * 15.9).astype(np.uint8)
        Image.fromarray(pixels).resize((32, 32)).save(folder / f"{number:04d}.png")


@contextmanager
def timed(what: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    logger.info("%-50s %5.0f s", what, time.perf_counter() - started)


class Project:
    """A project folder with exported DAGs, and what lies in its data."""

    def __init__(self, folder: Path) -> None:
        self.folder = copy_project(folder)
        self.images = folder / "photos"
        add_images(self.images, range(NUM_IMAGES))
        (folder / ".venv").symlink_to(ROOT / ".venv")
        shutil.copy(ROOT / ".telemetry", folder)
        params = {"ingestion.source": str(self.images), **SMALL}
        self.params = ",".join(f"{key}={value}" for key, value in params.items())
        self._configure()
        self.kedro(
            "airflow create --env=airflow --jinja-file=conf/airflow/dag.j2 --group-by=namespace",
            f"--pipelines={','.join(PIPELINES)}",
            f"--params=project_root={quote(str(folder))}",
        )

    def _configure(self) -> None:
        path = self.folder / "conf" / "airflow" / "airflow.yml"
        values = yaml.safe_load(path.read_text())
        values["default"].update(run_env="smoke", params=self.params, retry_delay=0)
        path.write_text(yaml.safe_dump(values))

    def kedro(self, text: str, *words: str) -> None:
        command = [str(ROOT / ".venv" / "bin" / "kedro"), *text.split(), *words]
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def runs(self) -> set[str]:
        """Return the names of all runs that have a record."""
        found = self.folder.glob("data/08_reporting/*/records")
        return {folder.parent.name for folder in found}

    def records(self, run: str) -> list[Record]:
        folder = self.folder / "data" / "08_reporting" / run / "records"
        records, problems = read_records(folder)
        assert not problems
        return records

    def model(self, run: str) -> Path:
        return self.folder / "data" / "06_models" / run

    def output(self, run: str, name: str) -> str:
        """Return the last digest of what a run made."""
        found = [record.outputs.get(name) for record in self.records(run)]
        return next(digest for digest in reversed(found) if digest)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    with timed("export of four DAGs"):
        return Project(tmp_path_factory.mktemp("scheduled") / FOLDER)


@pytest.fixture(scope="module")
def airflow(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AirflowInstance]:
    home = tmp_path_factory.mktemp("airflow")
    with timed("airflow db migrate"):
        # Airflow itself makes something of a $ in the path of its folder
        dags = shutil.copytree(project.folder / "airflow_dags", home / "dags")
        instance = AirflowInstance(home, dags)
    yield instance
    instance.stop()


@pytest.fixture(scope="module")
def scheduler(airflow: AirflowInstance) -> AirflowInstance:
    with timed("scheduler, API server and DAG processor"):
        airflow.start()
        for pipeline in PIPELINES:
            dag = dag_of(pipeline)
            wait_for(lambda dag=dag: airflow.knows(dag), dag, 120)
    return airflow


def test_a_clean_folder(project: Project, airflow: AirflowInstance) -> None:
    with timed("airflow dags test lct_pipeline"):
        said = airflow.command("dags", "test", "lct_pipeline")
    assert "state=success" in said
    (run,) = project.runs()
    assert run.startswith("manual__")
    assert (project.model(run) / "combined_model.safetensors").exists()
    reporting = project.folder / "data" / "08_reporting"
    assert json.loads((reporting / run / "evaluation.json").read_text())
    records = project.records(run)
    assert {record.status for record in records} == {"finished"}
    stages = {node.namespace for node in register_pipelines()["__default__"].nodes}
    assert sorted(stage for record in records for stage in record.namespaces) == sorted(
        stages
    )
    assert all(record.schedule.continues is None for record in records)


def test_changed_parameters(project: Project, airflow: AirflowInstance) -> None:
    (old,) = project.runs()
    before = project.output(old, "training_state")
    conf = json.dumps({"params": CHANGED})
    for pipeline in ("train", "combine", "evaluate"):
        with timed(f"airflow dags test {dag_of(pipeline)}"):
            said = airflow.command("dags", "test", dag_of(pipeline), "--conf", conf)
        assert "state=success" in said
        assert "Nothing to do" not in said
    (new,) = project.runs() - {old}
    assert new.startswith("train-manual__")
    assert (project.model(new) / "combined_model.safetensors").exists()
    assert (project.folder / "data/08_reporting" / new / "evaluation.json").exists()
    assert project.output(old, "training_state") == before
    assert project.output(new, "training_state") != before


def test_nothing_changed(project: Project, scheduler: AirflowInstance) -> None:
    before = {run: len(project.records(run)) for run in project.runs()}
    started = {}
    with timed("scheduled and triggered with nothing changed"):
        for pipeline in PIPELINES:
            dag = dag_of(pipeline)
            scheduler.unpause(dag)
            # one has a schedule: a missed time starts at once
            if pipeline != "__default__":
                started[dag] = scheduler.trigger(dag)
        wait_for(lambda: _scheduled(scheduler), "the scheduled start", 120)
        (started["lct_pipeline"],) = _scheduled(scheduler)
        for dag, run in started.items():
            assert set(scheduler.finished(dag, run).values()) == {"skipped"}
            assert "Nothing to do: run manual__" in scheduler.log(dag, run, "next_run")
    assert {run: len(project.records(run)) for run in project.runs()} == before


def _scheduled(scheduler: AirflowInstance) -> list[str]:
    """Return the starts of the whole pipeline that its schedule made."""
    found = scheduler.runs("lct_pipeline")
    return [run["dag_run_id"] for run in found if run["run_type"] == "scheduled"]


def test_new_images_and_a_killed_training(
    project: Project, scheduler: AirflowInstance
) -> None:
    runs = project.runs()
    (old,) = (run for run in runs if run.startswith("manual__"))
    num_ingested = len(list(project.folder.glob("data/02_intermediate/*")))
    add_images(project.images, range(NUM_IMAGES, NUM_IMAGES + 50))
    dag = dag_of("train")
    with timed("new images, killed in training"):
        started = scheduler.trigger(dag)
        os.kill(_process_in_training(project, runs), signal.SIGKILL)
        states = scheduler.finished(dag, started)
    assert states["training"] == "failed"
    assert states["cataloging"] == "upstream_failed"
    (new,) = project.runs() - runs
    assert _step(project, new) < SMALL["training.num_steps"]

    with timed("cleared, to the end"):
        scheduler.clear(dag, started, "training")
        states = scheduler.finished(dag, started)
    assert set(states.values()) == {"success"}
    assert _step(project, new) == SMALL["training.num_steps"]
    trainings = [r for r in project.records(new) if r.namespaces == ["training"]]
    assert [record.status for record in trainings] == ["running", "finished"]
    for record in project.records(new):
        assert record.schedule.continues == old
    ingested = list(project.folder.glob("data/02_intermediate/*"))
    assert len(ingested) == num_ingested  # in place, not beside

    with timed("the same training unbroken"):
        first = f"training.init_from.run={old}"
        project.kedro(
            "run --env=smoke --pipeline=train --namespaces=training",
            f"--params={project.params},run_id=unbroken,{first}",
        )
    for name in ("training_state", "checkpoints"):
        assert project.output(new, name) == project.output("unbroken", name)
    shutil.rmtree(project.folder / "data/08_reporting/unbroken")  # no longer the newest

    for pipeline in ("combine", "evaluate"):
        with timed(f"{dag_of(pipeline)} on the new run"):
            started = scheduler.trigger(dag_of(pipeline))
            states = scheduler.finished(dag_of(pipeline), started)
        assert set(states.values()) == {"success"}
    assert (project.model(new) / "combined_model.safetensors").exists()
    assert (project.folder / "data/08_reporting" / new / "evaluation.json").exists()


def _process_in_training(project: Project, known: set[str]) -> int:
    """Wait until a new run has saved its training once; return the process that trains."""

    def training() -> list[Record]:
        return [
            record
            for run in project.runs() - known
            if (project.model(run) / "training_state.safetensors").exists()
            for record in project.records(run)
            if record.namespaces == ["training"]
        ]

    wait_for(training, "a training under way", 600)
    return training()[0].process


def _step(project: Project, run: str) -> int:
    from lct_pipeline.datasets.tensors import TensorFileDataset

    path = project.model(run) / "training_state.safetensors"
    return TensorFileDataset(filepath=str(path)).load().metadata["step"]


def test_a_named_run(project: Project, scheduler: AirflowInstance) -> None:
    runs = project.runs()
    for states in ("success", "skipped"):
        with timed(f"lct_pipeline by name: {states}"):
            conf = {"run_id": "mine", "params": CHANGED}
            started = scheduler.trigger("lct_pipeline", **conf)
            found = scheduler.finished("lct_pipeline", started)
        assert set(found.values()) == {states}
    assert project.runs() - runs == {"mine"}


def test_a_start_chooses_no_code(project: Project, scheduler: AirflowInstance) -> None:
    runs = project.runs()
    with timed("lct_pipeline_train with code of its own: failed"):
        conf = {"params": "features.extractor.kind=evil.module:function"}
        started = scheduler.trigger("lct_pipeline_train", **conf)
        found = scheduler.finished("lct_pipeline_train", started)
    assert set(found.values()) == {"failed", "upstream_failed"}
    said = scheduler.log("lct_pipeline_train", started, "next_run")
    assert "evil.module:function" in said and "a start may not choose" in said
    assert project.runs() == runs
