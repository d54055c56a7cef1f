"""What surrounds a run: the check at the door, threads, and the record."""

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from kedro.config import MissingConfigException
from kedro.io import DataCatalog, MemoryDataset

from lct_pipeline.config_loader import LctConfigLoader
from lct_pipeline.errors import ParameterError
from lct_pipeline.hooks import (
    RECORDED_VERSIONS,
    ParameterHook,
    RunRecordHook,
    RuntimeHook,
    code_state,
    peak_memory_mib,
)
from lct_pipeline.parameters import check_parameters, parameters_digest
from lct_pipeline.settings import CONFIG_LOADER_ARGS

CONF = Path(__file__).parents[1] / "conf"


def context(project_path: Path = CONF, **runtime_params: Any) -> SimpleNamespace:
    loader = LctConfigLoader(
        str(CONF), env="base", runtime_params=runtime_params, **CONFIG_LOADER_ARGS
    )
    return SimpleNamespace(project_path=project_path, config_loader=loader)


def catalog() -> DataCatalog:
    return DataCatalog({"run_record": MemoryDataset()})


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *who, *words]
    return subprocess.run(
        command, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("GIT_DIR", raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    git(tmp_path, "init", "--quiet")
    (tmp_path / "tracked.txt").write_text("one")
    git(tmp_path, "add", "tracked.txt")
    git(tmp_path, "commit", "--quiet", "--message=first")
    return tmp_path


def test_valid_parameters_pass_the_door() -> None:
    ParameterHook().after_context_created(context())


@pytest.mark.parametrize("hook", [ParameterHook, RuntimeHook, RunRecordHook])
def test_every_hook_refuses_a_misspelt_parameter(hook: type) -> None:
    wrong = context(training={"lerning_rate": 1})
    with pytest.raises(ParameterError, match=r"training\.lerning_rate: no such"):
        hook().after_context_created(wrong)


def test_a_recipe_that_is_not_there_is_named() -> None:
    class Loader:
        def __getitem__(self, key: str) -> Any:
            raise MissingConfigException("no folder conf/smok")

    missing = SimpleNamespace(config_loader=Loader(), project_path=CONF)
    with pytest.raises(ParameterError, match=r"no folder conf/smok\. .*--env"):
        ParameterHook().after_context_created(missing)


@pytest.mark.parametrize(("asked", "expected"), [(3, 3), (0, 5)])
def test_the_number_of_threads_is_the_asked_one_or_that_of_the_cores(
    monkeypatch: pytest.MonkeyPatch, asked: int, expected: int
) -> None:
    calls: list[int] = []
    monkeypatch.setattr("lct_pipeline.models.device.limit_threads", calls.append)
    monkeypatch.setattr("os.cpu_count", lambda: 5)
    hook = RuntimeHook()
    hook.after_context_created(context(runtime={"num_threads": asked}))
    hook.before_pipeline_run()
    assert calls == [expected]


def test_the_record_says_what_ran_with_what(repository: Path) -> None:
    hook, data = RunRecordHook(), catalog()
    hook.after_context_created(context(repository, evaluation={"seed": 77}))
    for name in ("first", "second"):
        hook.before_node_run()
        hook.after_node_run(SimpleNamespace(name=name))
        hook.after_dataset_saved()
    run_params = {"pipeline_names": ["train"], "run_id": "2026-01-01"}
    hook.after_pipeline_run(run_params, data)
    record = json.loads(json.dumps(data.load("run_record")))
    values = check_parameters(
        context(evaluation={"seed": 77}).config_loader["parameters"]
    )
    assert record["error"] is None
    assert record["pipelines"] == ["train"]
    assert record["started"] == "2026-01-01"
    assert record["commit"] == git(repository, "rev-parse", "HEAD")
    assert record["dirty"] is False
    assert record["parameters"]["evaluation"]["seed"] == 77
    assert record["parameters_digest"] == parameters_digest(values.model_dump())
    assert record["versions"].keys() == set(RECORDED_VERSIONS)
    assert record["versions"]["torch"] == torch.__version__.split("+")[0]
    assert [node["node"] for node in record["nodes"]] == ["first", "second"]
    assert all(node["peak_memory_mib"] > 0 for node in record["nodes"])


def test_the_seconds_of_a_streaming_node_run_until_its_last_save(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hook, data, now = RunRecordHook(), catalog(), iter([10.0, 10.5, 14.0, 20.0, 21.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    hook.after_context_created(context())
    hook.before_node_run()
    hook.after_node_run(SimpleNamespace(name="stream"))
    hook.after_dataset_saved()
    hook.before_node_run()
    hook.after_node_run(SimpleNamespace(name="quick"))
    hook.after_pipeline_run({}, data)
    seconds = [node["seconds"] for node in data.load("run_record")["nodes"]]
    assert seconds == [4.0, 1.0]


def test_a_failed_run_is_recorded_with_its_error() -> None:
    hook, data = RunRecordHook(), catalog()
    hook.after_context_created(context())
    hook.on_pipeline_error(ValueError("went wrong"), {}, data)
    assert data.load("run_record")["error"] == "ValueError: went wrong"


def test_a_second_run_starts_a_new_list_of_nodes() -> None:
    hook, data = RunRecordHook(), catalog()
    for name in ("old", "new"):
        hook.after_context_created(context())
        hook.before_node_run()
        hook.after_node_run(SimpleNamespace(name=name))
    hook.after_pipeline_run({}, data)
    assert [n["node"] for n in data.load("run_record")["nodes"]] == ["new"]


def test_a_catalog_without_a_record_is_left_alone() -> None:
    hook, data = RunRecordHook(), DataCatalog()
    hook.after_context_created(context())
    hook.after_pipeline_run({}, data)
    assert "run_record" not in data


def test_peak_memory_is_that_of_a_python_with_torch() -> None:
    assert 50 < peak_memory_mib() < 100_000


def test_a_clean_repository_has_its_commit_and_is_not_dirty(repository: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    assert code_state(repository) == {"commit": commit, "dirty": False}


def test_a_changed_tracked_file_is_dirty(repository: Path) -> None:
    (repository / "tracked.txt").write_text("two")
    assert code_state(repository)["dirty"] is True


def test_an_untracked_file_is_not_dirty(repository: Path) -> None:
    (repository / "untracked.txt").write_text("new")
    assert code_state(repository)["dirty"] is False


def test_a_folder_below_a_repository_has_its_state(repository: Path) -> None:
    (repository / "below").mkdir()
    assert code_state(repository / "below") == code_state(repository)


def test_outside_a_repository_nothing_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert code_state(tmp_path) == {"commit": None, "dirty": None}


def test_without_git_nothing_is_known(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(repository / "nothing"))
    assert code_state(repository) == {"commit": None, "dirty": None}
