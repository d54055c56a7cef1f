"""Checkpoints of another trainer become checkpoints of a run of ours."""

from __future__ import annotations

import logging
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from conftest import run_stages
from lct_pipeline.datasets.checkpoints import CheckpointsDataset, CheckpointStore
from lct_pipeline.datasets.external_checkpoints import (
    ExternalCheckpoints,
    ExternalCheckpointsDataset,
)
from lct_pipeline.datasets.parts import Last, opened
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import DataError, ParameterError
from lct_pipeline.pipelines.cataloging.index import COLUMNS, NULLABLE
from lct_pipeline.pipelines.cataloging.nodes import (
    import_checkpoints,
    index_checkpoints,
)

STEPS = (20, 100, 300)
NAMES = ["step-0000020-raw", "step-0000100-raw", "step-0000300-raw"]
NOTHING: dict[str, Any] = dict.fromkeys(
    ("pattern", "step", "entry", "names", "strip_prefix")
)


def weights(step: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return {
        "out.weight": torch.randn(5, 3, generator=generator).half(),
        "out.steps": torch.tensor(step),
    }


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """Return a folder in which another trainer left three checkpoints."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    for step in STEPS:
        save_file(weights(step), folder / f"model_{step}.safetensors")
    return folder


@pytest.fixture
def ours(tmp_path: Path) -> CheckpointsDataset:
    return CheckpointsDataset(path=str(tmp_path / "theirs-here" / "checkpoints"))


def found(folder: Path, **changes: Any) -> ExternalCheckpoints:
    options = {**NOTHING, "kind": "raw", **changes}
    checkpoints = ExternalCheckpointsDataset(source=str(folder), **options).load()
    assert checkpoints is not None
    return checkpoints


def run(
    folder: Path, ours: CheckpointsDataset, stop: int | None = None, **changes: Any
) -> list[str]:
    """Import as Kedro does, up to a number of checkpoints; return the names that were written."""
    written: list[str] = []
    with closing(import_checkpoints(found(folder, **changes), ours.load())) as parts:
        for part in parts:
            ours.save(part)
            written += opened(part)[0]
            if len(written) == stop:
                break
    return written


def refusal(folder: Path, ours: CheckpointsDataset, **changes: Any) -> str:
    with pytest.raises(DataError) as caught:
        run(folder, ours, **changes)
    assert str(caught.value).startswith(f"{ours.load().folder} holds ")
    assert ": give another run_id" in str(caught.value)
    return str(caught.value)


def test_each_checkpoint_is_yielded_by_itself(
    theirs: Path, ours: CheckpointsDataset
) -> None:
    *parts, last = import_checkpoints(found(theirs), ours.load())
    assert [list(part) for part in parts] == [[name] for name in NAMES]
    assert last == Last({})


def test_a_copy_has_the_same_values_as_float32(
    theirs: Path, ours: CheckpointsDataset
) -> None:
    assert run(theirs, ours) == NAMES
    for step, name in zip(STEPS, NAMES, strict=True):
        tensors = ours.load().read(name).tensors
        assert torch.equal(tensors["out.weight"], weights(step)["out.weight"].float())
        assert tensors["out.steps"].item() == step
        assert tensors["out.steps"].dtype == torch.int64


def test_a_copy_says_where_it_is_from(theirs: Path, ours: CheckpointsDataset) -> None:
    run(theirs, ours)
    about = ours.load().read(NAMES[1]).metadata
    stat = (theirs / "model_100.safetensors").stat()
    assert about.pop("source") == {
        "file": "model_100.safetensors",
        "bytes": stat.st_size,
        "modified": stat.st_mtime_ns,
        "kind": "raw",
        "entry": None,
        "names": None,
        "strip_prefix": None,
    }
    assert (about.pop("step"), about.pop("kind")) == (100, "raw")
    assert about.pop("ends_stage") is False
    assert set(about.values()) == {None}
    assert about.keys() == {*COLUMNS, "network"} - {"step", "kind"}


def test_an_index_of_copies_is_written_and_read_back(
    theirs: Path, ours: CheckpointsDataset, tmp_path: Path
) -> None:
    run(theirs, ours)
    index = index_checkpoints(ours.load())
    assert list(index["step"]) == list(STEPS)
    assert list(index["name"]) == NAMES
    assert set(index["run"]) == {"theirs-here"}
    assert index[list(NULLABLE)].isna().all(axis=None)
    index.to_parquet(tmp_path / "index.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "index.parquet"), index)


def test_averages_are_copied_as_what_is_combined(
    tmp_path: Path, ours: CheckpointsDataset
) -> None:
    for step in STEPS:
        folder = tmp_path / f"checkpoint-{step}" / "unet_ema"
        folder.mkdir(parents=True)
        save_file(weights(step), folder / "diffusion_pytorch_model.safetensors")
    run(tmp_path, ours, kind="ema")
    about = ours.load().header(NAMES[0])
    assert about.kind == "raw"
    assert about.source is not None and about.source["kind"] == "ema"


def test_an_import_that_was_stopped_goes_on(
    theirs: Path, ours: CheckpointsDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(theirs, ours, stop=1) == NAMES[:1]
    assert not ours.exists()
    before = ours.load().path(NAMES[0]).stat().st_mtime_ns
    assert run(theirs, ours) == NAMES[1:]
    assert ours.load().path(NAMES[0]).stat().st_mtime_ns == before
    assert ours.exists()
    monkeypatch.setattr(ExternalCheckpoints, "read", None)  # nothing is read again
    assert run(theirs, ours) == []


def test_a_training_that_went_on_adds_its_new_checkpoints(
    theirs: Path, ours: CheckpointsDataset
) -> None:
    run(theirs, ours)
    save_file(weights(400), theirs / "model_400.safetensors")
    assert run(theirs, ours) == ["step-0000400-raw"]


def test_a_fault_in_the_middle_keeps_what_was_copied(
    theirs: Path, ours: CheckpointsDataset
) -> None:
    content = (theirs / "model_300.safetensors").read_bytes()
    (theirs / "model_300.safetensors").write_bytes(content[:-1])
    with pytest.raises(DataError, match=r"model_300\.safetensors cannot be read"):
        run(theirs, ours)
    assert ours.load().names() == NAMES[:2]
    (theirs / "model_300.safetensors").write_bytes(content)
    assert run(theirs, ours) == NAMES[2:]


def test_no_source_is_refused_with_the_command(ours: CheckpointsDataset) -> None:
    message = r"--params=cataloging\.source=<folder>,run_id=<name>"
    with pytest.raises(ParameterError, match=message):
        next(import_checkpoints(None, ours.load()))


def test_a_run_that_was_trained_here_is_refused(
    theirs: Path, ours: CheckpointsDataset
) -> None:
    ours.save({NAMES[0]: TensorFile({"a": torch.zeros(1)}, {"step": 20})})
    assert refusal(theirs, ours).endswith(
        f"{NAMES[0]}, which this project trained itself: give another run_id."
    )


def test_a_run_with_other_steps_is_refused(
    theirs: Path, ours: CheckpointsDataset
) -> None:
    run(theirs, ours)
    (theirs / "model_100.safetensors").unlink()
    message = f"{NAMES[1]}, of model_100.safetensors, which cataloging.source does not"
    assert message in refusal(theirs, ours)


def test_a_file_that_changed_is_refused(theirs: Path, ours: CheckpointsDataset) -> None:
    run(theirs, ours, stop=1)
    save_file({"out.weight": torch.zeros(1)}, theirs / "model_20.safetensors")
    message = f"{NAMES[0]}, which was imported with bytes="
    assert message in refusal(theirs, ours)


def test_other_names_on_the_same_run_are_refused(
    theirs: Path, ours: CheckpointsDataset
) -> None:
    run(theirs, ours, stop=1)
    message = "which was imported with names=None, and now it is 'weight'"
    assert message in refusal(theirs, ours, names="weight")


def test_the_disk_that_it_takes_is_told_and_too_little_is_warned_of(
    theirs: Path,
    ours: CheckpointsDataset,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = "lct_pipeline.pipelines.cataloging.copies"
    caplog.set_level(logging.INFO, module)
    run(theirs, ours, stop=1)
    (record,) = caplog.records
    assert record.getMessage() == (
        f"3 checkpoints to copy as float32: 0.00 GiB in {ours.load().folder}."
    )
    full = SimpleNamespace(free=100)
    monkeypatch.setattr(f"{module}.shutil.disk_usage", lambda _: full)
    caplog.clear()
    run(theirs, ours, stop=1)
    assert caplog.records[0].getMessage().startswith("2 checkpoints")
    assert caplog.records[1].levelname == "WARNING"
    assert caplog.records[1].getMessage() == "Only 0.00 GiB are free there."


def test_the_pipeline_copies_and_indexes_and_runs_again(
    project: Path, theirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    run_folder = project / "data" / "06_models" / "a-run"
    for _ in range(2):
        run_stages(
            project, "catalog", run_id="a-run", cataloging={"source": str(theirs)}
        )
        assert CheckpointStore(run_folder / "checkpoints").names() == NAMES
        index = pd.read_parquet(run_folder / "checkpoint_index.parquet")
        assert list(index["name"]) == NAMES
