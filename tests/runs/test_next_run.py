"""`kedro lct next-run` on the project in which the smoke recipe ran."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from kedro.framework.startup import bootstrap_project

from conftest import ROOT
from lct_pipeline import __version__ as VERSION
from lct_pipeline.cli import cli
from lct_pipeline.pipeline_registry import register_pipelines
from lct_pipeline.runs.next_run import NOTHING_TO_DO


@pytest.fixture
def asking(smoke_run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that asks in the project of the smoke recipe."""
    monkeypatch.chdir(smoke_run_copy)
    metadata = bootstrap_project(smoke_run_copy)

    def ask(*words: str) -> Result:
        command = ["lct", "next-run", "--env=smoke", *words]
        return CliRunner().invoke(cli, command, obj=metadata)

    return ask


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


def test_changed_images_continue(asking: Any, smoke_run_copy: Path) -> None:
    """Records of the same source with another fingerprint stand for changed images."""
    folder = smoke_run_copy / "data" / "08_reporting" / "tested" / "records"
    (path,) = folder.glob("*.json")
    record = json.loads(path.read_text())
    record["inputs"]["image_source"] = "0" * 64
    path.write_text(json.dumps(record))
    result = asking("--run-id=tuesday", "--pipeline=train", "--plain")
    assert result.stdout == "run_id=tuesday,training.init_from.run=tested\n"
    assert "the images changed; it starts from the last weights of tested" in (
        result.stderr
    )


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
        (["--run-id=x", "--params=ingestion.source=gone"], "'gone' does not exist"),
        (
            ["--run-id=x", "--pipeline=combine", "--params=training.seed=7"],
            "run the pipeline train first",
        ),
    ],
)
def test_faults_are_one_message(asking: Any, words: list[str], message: str) -> None:
    result = asking(*words)
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the files that the command of `make airflow-dags` writes."""
    folder = tmp_path_factory.mktemp("dags")
    makefile = (ROOT / "Makefile").read_text()
    recipe = makefile.partition("airflow-dags: $(STAMP)\n")[2].partition("\n\n")[0]
    recipe = recipe.replace("$(CURDIR)", "/some/'where").replace("$(VERSION)", VERSION)
    words = recipe.replace("\\\n", "").split()
    command = [sys.executable, "-m", "kedro", *words[1:], f"--target-dir={folder}"]
    environment = {**os.environ, "DO_NOT_TRACK": "1"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    return [file.read_text() for file in sorted(folder.glob("*.py"))]


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

    def test_tasks_call_the_projects_own_kedro(self, dags: dict[str, Any]) -> None:
        task = dags["lct_pipeline_train"]["tasks"]["training"]
        assert task["bash_command"] == (
            'exec "/some/\'where/.venv/bin/kedro" run --pipeline=train --namespaces=training '
            '--params="$LCT_PARAMS"'
        )
        assert task["cwd"] == "/some/'where"
        assert task["env"]["DO_NOT_TRACK"] == "1"
        assert task["env"]["KEDRO_LOGGING_CONFIG"] == "/some/'where/conf/logging.yml"

    def test_the_project_may_lie_elsewhere(
        self, texts: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LCT_PIPELINE_PROJECT", "/else where")
        for dag in map(declared, texts):
            for task in dag["tasks"].values():
                assert task["cwd"] == "/else where"
                assert task["bash_command"].startswith(
                    'exec "/else where/.venv/bin/kedro" '
                )


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
        "airflow.sdk": SimpleNamespace(DAG=Dag, Param=lambda value, **_: value),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, module in stand_ins.items():
            patch.setitem(sys.modules, name, module)
        exec(compile(text, "dag.py", "exec"), {})
    return dag
