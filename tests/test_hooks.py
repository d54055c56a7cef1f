"""What surrounds a run: the check at the door, threads, and the record."""

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from filelock import FileLock, Timeout
from kedro.config import MissingConfigException
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline

from conftest import git
from lct_pipeline.config_loader import LctConfigLoader
from lct_pipeline.datasets.atomic import AtomicDataset
from lct_pipeline.datasets.run_records import RunRecordsDataset
from lct_pipeline.errors import ParameterError
from lct_pipeline.hooks import ParameterHook, RunRecordHook, RuntimeHook
from lct_pipeline.models.device import describe_device
from lct_pipeline.parameters import check_parameters, parameters_digest
from lct_pipeline.runs.record import RECORDED_VERSIONS
from lct_pipeline.settings import CONFIG_LOADER_ARGS

CONF = Path(__file__).parents[1] / "conf"


def context(project_path: Path = CONF, **runtime_params: Any) -> SimpleNamespace:
    loader = LctConfigLoader(
        str(CONF), env="base", runtime_params=runtime_params, **CONFIG_LOADER_ARGS
    )
    return SimpleNamespace(project_path=project_path, config_loader=loader)


def catalog() -> DataCatalog:
    return DataCatalog({"run_records": MemoryDataset()})


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


def session(**more: Any) -> dict[str, Any]:
    return {"run_id": "2026-01-01T00.00.00.000Z", "pipeline_names": None, **more}


def node(name: str) -> Any:
    return Node(lambda: 1, inputs=None, outputs=name, name=name)


def recorded(hook: RunRecordHook, data: DataCatalog, *names: str) -> None:
    """Let a hook see the run of a pipeline of nodes."""
    pipeline = Pipeline([node(name) for name in names])
    asked = session(pipeline_names=["train"], namespaces=["training"])
    hook.before_pipeline_run(asked, pipeline, data)
    for name in names:
        hook.before_node_run()
        hook.after_node_run(node(name), data)
        hook.after_dataset_saved()
    hook.after_pipeline_run(pipeline, data)


def test_the_record_says_what_ran_with_what(repository: Path) -> None:
    hook, data = RunRecordHook(), catalog()
    hook.after_context_created(context(repository, evaluation={"seed": 77}))
    recorded(hook, data, "first", "second")
    record = json.loads(json.dumps(data.load("run_records")))
    values = check_parameters(
        context(evaluation={"seed": 77}).config_loader["parameters"]
    )
    assert record["status"] == "finished"
    assert record["error"] is None
    assert record["pipelines"] == ["train"]
    assert record["namespaces"] == ["training"]
    assert record["started"] == session()["run_id"] < record["ended"]
    assert record["commit"] == git(repository, "rev-parse", "HEAD")
    assert record["dirty"] is False
    assert record["device"] == describe_device("auto")
    assert record["parameters"]["evaluation"]["seed"] == 77
    assert record["parameters_digest"] == parameters_digest(
        values.model_dump(mode="json")
    )
    assert record["versions"].keys() == set(RECORDED_VERSIONS)
    assert record["versions"]["torch"] == torch.__version__.split("+")[0]
    assert [n["node"] for n in record["nodes"]] == ["first", "second"]
    assert all(n["peak_memory_mib"] > 0 for n in record["nodes"])


def test_the_record_grows_while_the_run_is_under_way() -> None:
    hook, data = RunRecordHook(), catalog()
    hook.after_context_created(context())
    hook.before_pipeline_run(session(), Pipeline([]), data)
    assert data.load("run_records")["status"] == "running"
    hook.before_node_run()
    hook.after_node_run(node("first"), data)
    record = data.load("run_records")
    assert record["status"] == "running"
    assert record["pipelines"] == ["__default__"]
    assert record["namespaces"] == []
    assert [n["node"] for n in record["nodes"]] == ["first"]


def test_the_record_has_digests_of_what_went_in_and_came_out(tmp_path: Path) -> None:
    files = {
        n: AtomicDataset(filepath=str(tmp_path / f"{n}.json"))
        for n in ("a", "b", "previous_b")
    }
    for file in files.values():
        file.save("first")
    data = DataCatalog({"run_records": MemoryDataset(), "c": MemoryDataset(3), **files})
    inputs = ["a", "c", "previous_b"]
    pipeline = Pipeline([Node(lambda *_: 1, inputs=inputs, outputs="b", name="n")])
    hook = RunRecordHook()
    hook.after_context_created(context())
    hook.before_pipeline_run(session(), pipeline, data)
    hook.before_node_run()
    files["b"].save("second")
    hook.after_node_run(pipeline.nodes[0], data)
    assert data.load("run_records")["inputs"] == {"a": sha256("first")}
    hook.after_pipeline_run(pipeline, data)
    record = data.load("run_records")
    assert record["inputs"] == {"a": sha256("first")}
    assert record["outputs"] == {"b": sha256("second")}


def sha256(text: str) -> str:
    return hashlib.sha256(f'"{text}"'.encode()).hexdigest()


def test_a_run_is_held_until_it_ends(tmp_path: Path) -> None:
    records = RunRecordsDataset(path=str(tmp_path / "run" / "records"))
    data, hook = DataCatalog({"run_records": records}), RunRecordHook()
    lock = FileLock(tmp_path / "run" / ".lock")
    for end in (
        lambda: hook.after_pipeline_run(Pipeline([]), data),
        lambda: hook.on_pipeline_error(ValueError("x"), Pipeline([]), data),
    ):
        hook.after_context_created(context())
        hook.before_pipeline_run(session(), Pipeline([]), data)
        with pytest.raises(Timeout):
            lock.acquire(timeout=0)
        end()
        with lock.acquire(timeout=0):
            pass


def test_the_seconds_of_a_streaming_node_run_until_its_last_save(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hook, data, now = (
        RunRecordHook(),
        catalog(),
        iter([10.0, 10.5, 14.0, 20.0, 21.0, 22.0]),
    )
    hook.after_context_created(context())
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    recorded(hook, data, "stream", "quick")
    seconds = [n["seconds"] for n in data.load("run_records")["nodes"]]
    assert seconds == [4.0, 2.0]


def test_a_failed_run_is_recorded_with_its_error() -> None:
    hook, data = RunRecordHook(), catalog()
    hook.after_context_created(context())
    hook.before_pipeline_run(session(), Pipeline([]), data)
    hook.on_pipeline_error(ValueError("went wrong"), Pipeline([node("first")]), data)
    record = data.load("run_records")
    assert record["status"] == "failed"
    assert record["error"] == "ValueError: went wrong"


def test_a_second_run_starts_a_new_list_of_nodes() -> None:
    hook, data = RunRecordHook(), catalog()
    for name in ("old", "new"):
        hook.after_context_created(context())
        recorded(hook, data, name)
    assert [n["node"] for n in data.load("run_records")["nodes"]] == ["new"]


def test_a_catalog_without_a_record_is_left_alone() -> None:
    hook, data = RunRecordHook(), DataCatalog()
    hook.after_context_created(context())
    recorded(hook, data, "first")
    assert "run_records" not in data
