"""`kedro lct next-run` on the project in which the smoke recipe ran."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from configuration import loader
from jinja2 import Template
from kedro.framework.startup import bootstrap_project

from conftest import ROOT, copy_project, put
from lct_pipeline import __version__ as VERSION
from lct_pipeline.cli import cli
from lct_pipeline.errors import ParameterError
from lct_pipeline.parameters import check_parameters
from lct_pipeline.pipeline_registry import register_pipelines
from lct_pipeline.runs.next_run import NOTHING_TO_DO, Settled, params_for
from lct_pipeline.runs.schedule import Decision


def asking_in(project: Path, patch: pytest.MonkeyPatch) -> Any:
    """Return a function that asks in a project."""
    patch.chdir(project)
    metadata = bootstrap_project(project)

    def ask(*words: str) -> Result:
        command = ["lct", "next-run", "--env=smoke", *words]
        return CliRunner().invoke(cli, command, obj=metadata)

    return ask


@pytest.fixture
def asking(smoke_run: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that asks in the project of the smoke recipe."""
    return asking_in(smoke_run, monkeypatch)


@pytest.mark.parametrize("pipeline", ["__default__", "train", "combine", "evaluate"])
def test_a_finished_run_is_not_run_again(asking: Any, pipeline: str) -> None:
    result = asking("--run-id=tuesday", f"--pipeline={pipeline}")
    assert result.exit_code == NOTHING_TO_DO
    assert result.stderr == (
        f"Nothing to do: run tested has finished {pipeline} with these parameters on these "
        "images.\n"
    )
    assert json.loads(result.stdout)["run_id"] == "tested"
    plain = asking("--run-id=tuesday", f"--pipeline={pipeline}", "--plain")
    assert (plain.exit_code, plain.stdout) == (NOTHING_TO_DO, "")


def test_changed_parameters_are_a_new_run(asking: Any) -> None:
    result = asking(
        "--run-id=manual__1:2", "--params=training.network.unet.multipliers=[1,2],"
    )
    assert result.exit_code == 0
    answer = json.loads(result.stdout.splitlines()[-1])
    assert (
        answer["params"] == "training.network.unet.multipliers=[1,2],run_id=manual__1-2"
    )
    assert answer["schedule"]["scheduled_as"] == "manual__1:2"
    assert answer["schedule"]["continues"] is None
    plain = asking("--run-id=x", "--params=training.seed=5", "--plain")
    assert plain.stdout == "training.seed=5,run_id=x\n"


def test_changed_images_continue(
    smoke_run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records of the same source with another fingerprint stand for changed images."""
    folder = smoke_run_copy / "data" / "08_reporting" / "tested" / "records"
    (path,) = folder.glob("*.json")
    record = json.loads(path.read_text())
    record["inputs"]["image_source"] = "0" * 64
    path.write_text(json.dumps(record))
    theirs = folder.parents[1] / "theirs" / "records" / "no.json"
    theirs.parent.mkdir(parents=True)
    theirs.write_text(json.dumps(record | {"commit": "--output=x"}))
    asking = asking_in(smoke_run_copy, monkeypatch)
    result = asking("--run-id=tuesday", "--pipeline=train", "--plain")
    assert f"Left out: {theirs} is not the record of a run (commit=" in result.stderr
    assert result.stdout == "run_id=tuesday,training.init_from.run=tested\n"
    assert "the images changed; it starts from the last weights of tested" in (
        result.stderr
    )


def test_files_and_code_that_the_schedule_names_are_taken(asking: Any) -> None:
    """A start may repeat what conf/ names, and the schedule's own parameters may name more."""
    function = (
        "combination.search.methods=[cma],combination.generator=mine.module:generate"
    )
    again = asking(
        "--run-id=x", f"--always={function}", f"--params={function}", "--plain"
    )
    assert again.stdout == f"{function},{function},run_id=x\n"


def test_what_is_left_open_swallows_no_name() -> None:
    with pytest.raises(ParameterError, match="a bracket in it is left open"):
        params_for(Decision("x", "."), "export.license=[x")


OURS = {"generator": "mine.module:generate", "search": {"methods": ["cma"]}}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("combination.generator", "evil.module:function"),
        ("features.extractor.path", "/tmp/evil.pt"),
        ("evaluation.extractors", [{"kind": "evil.module:function"}]),
        ("ingestion.source", "/home/them"),
        ("ingestion.labels", "theirs.csv"),
        ("encoding.autoencoder", "someone/vae"),
    ],
)
def test_each_file_and_import_path_has_to_be_named(key: str, value: Any) -> None:
    settled = Settled(ROOT, "smoke", {"combination": OURS})
    parameters = loader("smoke", combination=OURS)["parameters"]
    settled.check(check_parameters(parameters))
    put(parameters, key, value)
    with pytest.raises(ParameterError, match=f"{key}.*: a start may not choose"):
        settled.check(check_parameters(parameters))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--run-id="], "no letter or digit"),
        (
            ["--run-id=x", "--pipeline=trian"],
            "no such pipeline; there are: __default__",
        ),
        (
            ["--run-id=x", "--params=training.steps=1"],
            "training.steps: no such parameter",
        ),
        (["--run-id=x", "--always=ingestion.source=gone"], "'gone' does not exist"),
        (
            ["--run-id=x", "--pipeline=combine", "--params=training.seed=7"],
            "run the pipeline train first",
        ),
        (
            ["--run-id=x", "--params=features.extractor.kind=evil.module:function"],
            "features.extractor.kind='evil.module:function': a start may not choose",
        ),
    ],
)
def test_faults_are_one_message(asking: Any, words: list[str], message: str) -> None:
    result = asking(*words)
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output


FOLDER = 'it\'s "a" $HOME `b`, {{ c }} ${d}\né'
RECIPE = "x'; echo {{ y }} $HOME"
ALWAYS = "ingestion.source={{ ds }}'\"$HOME"


TOLD = 'printf "%s\\0" "$@"'  # a program that says what it was given


def make_python(project: Path, line: str) -> None:
    """Write a stand-in, a line of shell, for the Python of a project."""
    python = project / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{line}\n")
    python.chmod(0o755)


def told(command: list[str], folder: Path, **options: Any) -> list[str]:
    """Return the words that a command gives to the stand-in, after ``-m kedro``."""
    done = subprocess.run(
        command, cwd=folder, check=True, stdout=subprocess.PIPE, **options
    )
    return done.stdout.decode().split("\0")[2:-1]


def test_what_is_typed_for_make_viz_stays_one_word(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    make_python(tmp_path, TOLD)
    made = ["make", "--silent", "--old-file=.venv/.installed", "viz"]
    assert told(made, tmp_path) == ["viz", "run"]
    name = "a b'; echo \"c`d`"
    words = told([*made, f"RUN={name}", f"ENV={name}"], tmp_path)
    assert words == ["viz", "run", f"--env={name}", f"--params=run_id={name}"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project, in a folder of a hard name, in which `make airflow-dags` ran."""
    project = copy_project(tmp_path_factory.mktemp("dags") / FOLDER)
    shutil.copytree(ROOT / "src", project / "src", dirs_exist_ok=True)
    shutil.copy(ROOT / "Makefile", project)
    settings = project / "conf" / "airflow" / "airflow.yml"
    odd = {"run_env": RECIPE, "params": ALWAYS}
    settings.write_text(f"{settings.read_text()}\nevaluate: {json.dumps(odd)}\n")
    make_python(project, f'exec {sys.executable} "$@"')
    made = ["make", "--old-file=.venv/.installed", "airflow-dags"]
    subprocess.run(made, cwd=project, check=True, capture_output=True)
    return project


@pytest.fixture(scope="module")
def texts(exported: Path) -> list[str]:
    """Return the files that it wrote."""
    files = sorted((exported / "airflow_dags").glob("*.py"))
    return [file.read_text() for file in files]


@pytest.fixture
def dags(texts: list[str]) -> dict[str, dict[str, Any]]:
    """Return what each file declares, run with stand-ins for Airflow's classes."""
    assert len(texts) == 4
    return {dag["dag_id"]: dag for dag in map(declared, texts)}


class TestDags:
    """The DAGs that `make airflow-dags` exports, without Airflow."""

    def test_one_has_a_schedule_and_none_runs_twice_at_once(
        self, dags: dict[str, Any]
    ) -> None:
        assert {name: dag["schedule"] for name, dag in dags.items()} == {
            "lct_pipeline": "@daily",
            "lct_pipeline_train": None,
            "lct_pipeline_combine": None,
            "lct_pipeline_evaluate": None,
        }
        for dag in dags.values():
            assert (dag["max_active_runs"], dag["catchup"]) == (1, False)
            assert dag["tags"] == [f"lct_pipeline {VERSION}"]

    def test_there_is_a_task_for_each_stage(self, dags: dict[str, Any]) -> None:
        first = {"next_run"}
        stages = {node.namespace for node in register_pipelines()["__default__"].nodes}
        assert set(dags["lct_pipeline"]["tasks"]) == stages | first
        assert set(dags["lct_pipeline_combine"]["tasks"]) == first | {
            "references",
            "baselines",
            "combination",
        }

    def test_stages_wait_for_what_they_need(self, dags: dict[str, Any]) -> None:
        needs = dags["lct_pipeline"]["needs"]
        assert needs["ingestion"] == {"next_run"}
        assert needs["training"] == {"encoding"}
        assert needs["baselines"] >= {"references", "cataloging"}
        assert needs["combination"] >= {"baselines", "references"}
        assert needs["evaluation"] >= {"combination"}
        assert dags["lct_pipeline_evaluate"]["needs"]["references"] == {"next_run"}

    def test_training_alone_is_not_retried(self, dags: dict[str, Any]) -> None:
        retries = {k: v["retries"] for k, v in dags["lct_pipeline"]["tasks"].items()}
        assert retries.pop("training") == 0
        assert set(retries.values()) == {2}

    def test_tasks_call_the_projects_own_kedro(
        self, dags: dict[str, Any], exported: Path
    ) -> None:
        task = dags["lct_pipeline_train"]["tasks"]["training"]
        assert task["bash_command"] == Literal(
            "exec .venv/bin/python -m kedro run --pipeline=train --namespaces=training "
            '--params="$LCT_PARAMS"'
        )
        assert task["cwd"] == Literal(str(exported))
        assert task["env"]["DO_NOT_TRACK"] == Literal("1")
        assert task["env"]["KEDRO_LOGGING_CONFIG"] == Literal("conf/logging.yml")

    def test_what_is_configured_and_what_is_typed_stays_one_word(
        self, dags: dict[str, Any], tmp_path: Path
    ) -> None:
        """Each command is run by a shell, with a stand-in for the project's Python."""
        make_python(tmp_path, TOLD)
        typed = "a=`b`,c='$d\"\n;e"
        given = {"params": {"params": typed, "run_id": ""}, "run_id": typed}
        said = {"params": typed, "schedule": {"reason": typed}}
        given["ti"] = SimpleNamespace(xcom_pull=lambda task_ids: said)
        words = {}
        for name, task in dags["lct_pipeline_evaluate"]["tasks"].items():
            env = {key: rendered(value, given) for key, value in task["env"].items()}
            command = ["bash", "-c", rendered(task["bash_command"], given)]
            words[name] = told(command, tmp_path, env=env)
        choice = ["--pipeline=evaluate", f"--env={RECIPE}"]
        asked = [
            f"--run-id=evaluate-{typed}",
            f"--always={ALWAYS}",
            f"--params={typed}",
        ]
        assert words.pop("next_run") == ["lct", "next-run", *choice, *asked]
        for name, found in words.items():
            stage = [f"--namespaces={name}", f"--params={typed}"]
            assert found == ["run", *choice, *stage]

    def test_the_project_may_lie_elsewhere(
        self, texts: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LCT_PIPELINE_PROJECT", "/else where")
        for dag in map(declared, texts):
            for task in dag["tasks"].values():
                assert task["cwd"] == Literal("/else where")


@dataclass(frozen=True)
class Literal:
    """A stand-in for what Airflow does not take for a template."""

    text: str


def rendered(value: str | Literal, context: dict[str, Any]) -> str:
    """Return a text as Airflow renders it for a task."""
    if isinstance(value, Literal):
        return value.text
    return Template(value, keep_trailing_newline=True).render(context)


def declared(text: str) -> dict[str, Any]:
    """Run the text of a DAG with stand-ins for Airflow and return what it declared."""
    dag: dict[str, Any] = {"tasks": {}, "needs": {}}

    class Task:
        def __init__(self, task_id: str, **values: Any) -> None:
            self.task_id = task_id
            dag["tasks"][task_id] = values

        def __rshift__(self, after: Task) -> None:
            [self] >> after  # type: ignore[operator]

        def __rrshift__(self, before: list[Task]) -> None:
            dag["needs"][self.task_id] = {task.task_id for task in before}

    class Dag:
        def __init__(self, **values: Any) -> None:
            dag.update(values)

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

    stand_ins = {
        "airflow.providers.standard.operators.bash": SimpleNamespace(BashOperator=Task),
        "airflow.sdk": SimpleNamespace(
            DAG=Dag, Param=lambda value, **_: value, literal=Literal
        ),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, module in stand_ins.items():
            patch.setitem(sys.modules, name, module)
        exec(compile(text, "dag.py", "exec"), {})
    return dag
