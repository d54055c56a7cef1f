"""What surrounds a run: the check at the door, threads, and the record."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from configuration import loader
from filelock import FileLock, Timeout
from hostile import ADDRESS
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline
from making_runs import make_record, make_run

from conftest import git
from lct_pipeline.datasets.atomic import AtomicDataset
from lct_pipeline.datasets.checkpoints import CheckpointsDataset
from lct_pipeline.datasets.run_records import RunRecordsDataset
from lct_pipeline.errors import DataError, ParameterError, UserError
from lct_pipeline.hooks import RunHook
from lct_pipeline.models.device import describe_device
from lct_pipeline.parameters import parameters_digest
from lct_pipeline.runs.record import RECORDED_VERSIONS

SESSION = {"run_id": "2026-01-01T00.00.00.000Z", "pipeline_names": None}


def hook_of(project: Path, *, env: str = "base", **runtime_params: Any) -> RunHook:
    hook, config = RunHook(), loader(env, **runtime_params)
    context = SimpleNamespace(project_path=project, config_loader=config)
    hook.after_context_created(context)
    return hook


@pytest.fixture
def data(tmp_path: Path) -> DataCatalog:
    records = RunRecordsDataset(path=str(tmp_path / "run" / "records"))
    checkpoints = CheckpointsDataset(path=str(tmp_path / "run" / "checkpoints"))
    return DataCatalog({"run_records": records, "checkpoints": checkpoints})


def node(name: str) -> Any:
    return Node(lambda: 1, inputs=None, outputs=name, name=name)


def recorded(hook: RunHook, data: DataCatalog, *names: str, **session: Any) -> Any:
    """Let a hook see the run of a pipeline of nodes; return the record."""
    pipeline = Pipeline([node(name) for name in names])
    hook.before_pipeline_run({**SESSION, **session}, pipeline, data)
    for name in names:
        hook.before_node_run()
        hook.after_node_run(node(name), data)
        hook.after_dataset_saved(name, 1)
    hook.after_pipeline_run(pipeline, data)
    return data.load("run_records")[-1].model_dump()


def test_a_misspelt_parameter_and_a_recipe_that_is_not_there_are_refused(
    tmp_path: Path,
) -> None:
    with pytest.raises(ParameterError, match=r"training\.lerning_rate: no such"):
        hook_of(tmp_path, training={"lerning_rate": 1})
    with pytest.raises(ParameterError, match=r"conf/smok.*Run from the project"):
        hook_of(tmp_path, env="smok")


def test_a_run_of_another_version_is_left_as_it_is(tmp_path: Path) -> None:
    make_run(tmp_path, "old", make_record(**{"parameters.training.betas": [0.9]}))
    make_run(tmp_path, "new", make_record())
    hook_of(tmp_path, run_id="new")
    with pytest.raises(
        UserError, match=r"Another version .* made the run old\. .*run_id"
    ):
        hook_of(tmp_path, run_id="old")


@pytest.mark.parametrize(("asked", "expected"), [(3, 3), (0, 5)])
def test_the_number_of_threads_is_the_asked_one_or_that_of_the_cores(
    tmp_path: Path,
    data: DataCatalog,
    monkeypatch: pytest.MonkeyPatch,
    asked: int,
    expected: int,
) -> None:
    calls: list[int] = []
    monkeypatch.setattr("lct_pipeline.models.device.limit_threads", calls.append)
    monkeypatch.setattr("os.cpu_count", lambda: 5)
    hook = hook_of(tmp_path, runtime={"num_threads": asked})
    hook.before_pipeline_run(SESSION, Pipeline([]), data)
    assert calls == [expected]


@pytest.mark.parametrize(
    ("noise", "others", "end"),
    [
        ({"s1": 45}, {}, 40),
        ({"s1": 15}, {}, 10),
        ({"s1": 640}, {"num_steps": 3}, 40),
        ({"s1": 50}, {}, None),
        ({"s1": 1000}, {}, None),
        ({"s1": 45, "schedule": "continuous"}, {}, None),
        (
            {"s1": 45},
            {"objective": {"kind": "diffusion", "coupling": "independent"}},
            None,
        ),
    ],
    ids=str,
)
def test_a_curriculum_that_will_not_end_at_s1_is_said_before_anything_runs(
    tmp_path: Path,
    data: DataCatalog,
    caplog: pytest.LogCaptureFixture,
    noise: dict[str, Any],
    others: dict[str, Any],
    end: int | None,
) -> None:
    search = {"search": {"methods": ["cma"]}}
    hook = hook_of(tmp_path, training={"noise": noise, **others}, combination=search)
    caplog.set_level("WARNING", logger="lct_pipeline")
    for namespace in ("evaluation", "training"):
        assert not caplog.records
        pipeline = Pipeline([node("first")], namespace=namespace)
        hook.before_pipeline_run(SESSION, pipeline, data)
        hook.after_pipeline_run(pipeline, data)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * bool(end)
    assert f"from s0=10 to {end}, not to s1={noise['s1']}" in caplog.text or not end


def test_the_record_says_what_ran_with_what(
    repository: Path, data: DataCatalog
) -> None:
    hook = hook_of(repository, evaluation={"seed": 77})
    session = {"pipeline_names": ["train"], "namespaces": ["training"]}
    record = recorded(hook, data, "first", "second", **session)
    expected = {
        "status": "finished",
        "error": None,
        "pipelines": ["train"],
        "namespaces": ["training"],
        "started": SESSION["run_id"],
        "commit": git(repository, "rev-parse", "HEAD"),
        "dirty": False,
        "device": describe_device("auto"),
        "parameters_digest": parameters_digest(record["parameters"]),
    }
    assert {key: record[key] for key in expected} == expected
    assert record["ended"] > record["started"]
    assert record["parameters"]["evaluation"]["seed"] == 77
    assert record["versions"].keys() == set(RECORDED_VERSIONS)
    assert record["versions"]["torch"] == torch.__version__.split("+")[0]
    assert [n["node"] for n in record["nodes"]] == ["first", "second"]
    assert all(n["peak_memory_mib"] > 50 for n in record["nodes"])
    assert all(n["cpu_seconds"] >= 0 for n in record["nodes"])


def test_the_record_grows_while_the_run_is_under_way(
    tmp_path: Path, data: DataCatalog
) -> None:
    hook = hook_of(tmp_path)
    hook.before_pipeline_run(SESSION, Pipeline([]), data)
    assert data.load("run_records")[0].status == "running"
    hook.before_node_run()
    hook.after_node_run(node("first"), data)
    (record,) = data.load("run_records")
    assert (record.status, record.pipelines) == ("running", ["__default__"])
    assert [cost.node for cost in record.nodes] == ["first"]


def test_a_session_says_what_it_does_and_in_the_end_how_long_that_took(
    tmp_path: Path, data: DataCatalog, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="lct_pipeline")
    hook = hook_of(tmp_path, run_id="tried")
    work = Node(lambda: 1, inputs=None, outputs="n", name="n", namespace="statistics")
    hook.before_pipeline_run(SESSION, Pipeline([work]), data)
    assert "Run tried: what comes" in caplog.text
    assert "outliers of pixels" in caplog.text
    hook.before_node_run()
    hook.after_node_run(work, data)
    hook.after_pipeline_run(Pipeline([work]), data)
    assert "Run tried took" in caplog.text


def test_a_gpu_that_is_not_used_is_told_at_the_start(
    tmp_path: Path,
    data: DataCatalog,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    for device in ("cpu", "auto"):
        hook = hook_of(tmp_path, runtime={"device": device})
        hook.before_pipeline_run(SESSION, Pipeline([]), data)
        hook.after_pipeline_run(Pipeline([]), data)
    assert caplog.text.count("3 GPUs are here") == 1


def test_the_record_has_digests_of_what_went_in_and_came_out(
    tmp_path: Path, data: DataCatalog
) -> None:
    files = {
        n: AtomicDataset(filepath=str(tmp_path / f"{n}.json"))
        for n in ("a", "b", "previous_b")
    }
    for name, file in files.items():
        file.save("first")
        data[name] = file
    data["c"] = MemoryDataset(3)
    inputs = ["a", "c", "previous_b"]
    pipeline = Pipeline([Node(lambda *_: 1, inputs=inputs, outputs="b", name="n")])
    hook = hook_of(tmp_path)
    hook.before_pipeline_run(SESSION, pipeline, data)
    hook.before_node_run()
    files["b"].save("second")
    hook.after_node_run(pipeline.nodes[0], data)
    hook.after_pipeline_run(pipeline, data)
    (record,) = data.load("run_records")
    assert record.inputs == {"a": sha256("first")}
    assert record.outputs == {"b": sha256("second")}


def sha256(text: str) -> str:
    return hashlib.sha256(json.dumps(text).encode()).hexdigest()


@pytest.mark.parametrize("error", [None, ValueError(f"went wrong at {ADDRESS}")])
def test_a_run_is_held_until_it_ends_well_or_not(
    tmp_path: Path, data: DataCatalog, error: Exception | None
) -> None:
    lock, hook = FileLock(tmp_path / "run" / ".lock"), hook_of(tmp_path)
    session = {**SESSION, "pipeline_names": ["train"]}
    hook.before_pipeline_run(session, Pipeline([]), data)
    with pytest.raises(Timeout):
        lock.acquire(timeout=0)
    other = hook_of(tmp_path, runtime={"wait_minutes": 0})
    with pytest.raises(DataError, match=r"run run is worked on .* \(train, since"):
        other.before_pipeline_run(SESSION, Pipeline([]), data)
    if error is None:
        hook.after_pipeline_run(Pipeline([]), data)
    else:
        hook.on_pipeline_error(error, Pipeline([node("first")]), data)
        (record,) = data.load("run_records")
        assert record.status == "failed"
        assert record.error == "ValueError: went wrong at https://host/a.zip"
    with lock.acquire(timeout=0):
        pass


def test_the_seconds_of_a_streaming_node_run_until_its_last_save(
    tmp_path: Path, data: DataCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook, now = hook_of(tmp_path), iter([10.0, 10.5, 14.0, 20.0, 21.0, 22.0, 0, 0, 0])
    clock = SimpleNamespace(perf_counter=lambda: next(now))
    monkeypatch.setattr("lct_pipeline.hooks.time", clock)
    record = recorded(hook, data, "stream", "quick")
    assert [n["seconds"] for n in record["nodes"]] == [4.0, 2.0]
    second = recorded(hook, data, "third", run_id="2026-01-02T00.00.00.000Z")
    assert [n["node"] for n in second["nodes"]] == ["third"]
