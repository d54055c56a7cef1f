"""The index of a run's checkpoints, and those of another trainer, which become a run of ours."""

from __future__ import annotations

import logging
import os
import shutil
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from configuration import recipe
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from conftest import SmokeResults, run_stages
from lct_pipeline.datasets.checkpoints import CheckpointsDataset, CheckpointStore
from lct_pipeline.datasets.external_checkpoints import (
    ExternalCheckpoints,
    ExternalCheckpointsDataset,
)
from lct_pipeline.datasets.parts import opened
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import DataError, ParameterError
from lct_pipeline.pipelines.cataloging.checkpoints import COLUMNS
from lct_pipeline.pipelines.cataloging.nodes import (
    import_checkpoints,
    index_checkpoints,
)

SAID_BY_US = [name for name in COLUMNS if name not in ("step", "kind")]


def test_a_row_says_what_the_checkpoint_says(results: SmokeResults) -> None:
    catalog, store = results.catalog, results.catalog.load("checkpoints")
    rows = catalog.load("checkpoint_index").rows
    assert {name: str(rows[name].dtype) for name in COLUMNS} == COLUMNS
    index = rows.set_index("name")
    row, header = index.loc["step-0000060-raw"], store.header("step-0000060-raw")
    assert (row["run"], row["num_images"]) == ("tested", 60 * 32)
    for name in ("step", "kind", "loss", "parameters_digest", "digest"):
        assert row[name] == getattr(header, name)
    assert row["bytes"] == store.path("step-0000060-raw").stat().st_size
    rates, widths = index["ema_rate"].dropna(), index["ema_width"].dropna()
    assert set(rates) == {0.9, 0.95} and set(index["kind"][rates.index]) == {"ema"}
    powers = [f"step-00000{step}-power-0.1" for step in (20, 40, 60)]
    assert widths.to_dict() == dict.fromkeys(powers, 0.1)


def test_a_truncated_checkpoint_is_named_and_no_checkpoint_says_train_first(
    results: SmokeResults, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="holds no checkpoint: train first"):
        index_checkpoints(CheckpointStore(tmp_path), recipe().features)
    name = "step-0000060-raw.safetensors"
    shutil.copy(results.run / "checkpoints" / name, tmp_path)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-7])
    with pytest.raises(DataError, match=r"step-0000060-raw.*truncated"):
        index_checkpoints(CheckpointStore(tmp_path), recipe().features)


# checkpoints of another trainer

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


def run(
    folder: Path, ours: CheckpointsDataset, stop: int | None = None, **changes: Any
) -> list[str]:
    """Import as Kedro does, up to a number of checkpoints; return the names that were written."""
    options = {**NOTHING, "kind": "raw", **changes}
    found = ExternalCheckpointsDataset(source=str(folder), **options).load()
    written: list[str] = []
    with closing(import_checkpoints(found, ours.load())) as parts:
        for part in parts:
            ours.save(part)
            files, is_last = opened(part)
            assert len(files) == (0 if is_last else 1)
            written += files
            if len(written) == stop:
                break
    return written


def test_a_copy_has_the_same_values_as_float32_and_says_where_it_is_from(
    theirs: Path, ours: CheckpointsDataset, tmp_path: Path
) -> None:
    assert run(theirs, ours) == NAMES
    store = ours.load()
    for step, name in zip(STEPS, NAMES, strict=True):
        tensors = store.read(name).tensors
        assert torch.equal(tensors["out.weight"], weights(step)["out.weight"].float())
        assert tensors["out.steps"].item() == step
        assert tensors["out.steps"].dtype == torch.int64
    stat = (theirs / "model_100.safetensors").stat()
    assert store.header(NAMES[1]).source == {
        "file": "model_100.safetensors",
        "bytes": stat.st_size,
        "modified": stat.st_mtime_ns,
        "kind": "raw",
        "entry": None,
        "names": None,
        "strip_prefix": None,
    }
    index = index_checkpoints(store, recipe().features)
    assert list(index["step"]) == list(STEPS)
    assert list(index["name"]) == NAMES
    assert set(index["run"]) == {"theirs-here"}
    assert index[SAID_BY_US].isna().all(axis=None)
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


def test_an_import_that_was_stopped_or_whose_training_went_on_goes_on(
    theirs: Path, ours: CheckpointsDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(theirs, ours, stop=1) == NAMES[:1]
    assert not ours.exists()
    before = ours.load().path(NAMES[0]).stat().st_mtime_ns
    assert run(theirs, ours) == NAMES[1:]
    assert ours.load().path(NAMES[0]).stat().st_mtime_ns == before
    assert ours.exists()
    save_file(weights(400), theirs / "model_400.safetensors")
    assert run(theirs, ours) == ["step-0000400-raw"]
    monkeypatch.setattr(ExternalCheckpoints, "read", None)  # nothing is read again
    assert run(theirs, ours) == []


def test_a_fault_in_the_middle_keeps_what_was_copied(
    theirs: Path, ours: CheckpointsDataset
) -> None:
    content = (theirs / "model_300.safetensors").read_bytes()
    (theirs / "model_300.safetensors").write_bytes(content[:-1])
    os.utime(theirs / "model_300.safetensors", (0, 0))
    with pytest.raises(DataError, match=r"model_300\.safetensors cannot be read"):
        run(theirs, ours)
    assert ours.load().names() == NAMES[:2]
    (theirs / "model_300.safetensors").write_bytes(content)
    assert run(theirs, ours) == NAMES[2:]


def test_a_file_that_is_still_being_written_waits_and_an_old_one_is_damaged(
    theirs: Path, ours: CheckpointsDataset, caplog: pytest.LogCaptureFixture
) -> None:
    path = theirs / "model_300.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert run(theirs, ours) == NAMES[:2]
    (said,) = [text for text in caplog.messages if text.startswith("Still being w")]
    assert said.startswith(f"Still being written, it waits for the next import: {path}")
    path.write_bytes(content)
    assert run(theirs, ours) == NAMES[2:]


def test_whole_numbers_that_are_taken_from_the_last_are_warned_of(
    theirs: Path, ours: CheckpointsDataset, caplog: pytest.LogCaptureFixture
) -> None:
    run(theirs, ours)
    (said,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert "taken from the last: out.steps. Counters" in said


def test_what_a_header_says_is_in_the_copy_for_others_to_read(
    theirs: Path, ours: CheckpointsDataset
) -> None:
    said = {"format": "pt", "lora_adapter_metadata": '{"lora_alpha": 16}', "step": "x"}
    for step in STEPS:
        save_file(weights(step), theirs / f"model_{step}.safetensors", said)
    run(theirs, ours)
    store = ours.load()
    with safe_open(store.path(NAMES[0]), "pt") as file:
        header = file.metadata()
    assert header["lora_adapter_metadata"] == said["lora_adapter_metadata"]
    assert (header["format"], header["step"]) == ("pt", "20")
    about = store.header(NAMES[0])
    assert about.step == 20
    expected = {**said, "their_step": "x"}
    del expected["step"]
    assert about.said == expected
    assert store.read(NAMES[0]).metadata["said"] == expected


def trained_here(theirs: Path, ours: CheckpointsDataset) -> None:
    ours.save({NAMES[0]: TensorFile({"a": torch.zeros(1)}, {"step": 20})})


def a_file_is_gone(theirs: Path, ours: CheckpointsDataset) -> None:
    (theirs / "model_20.safetensors").unlink()


def a_file_changed(theirs: Path, ours: CheckpointsDataset) -> None:
    save_file({"out.weight": torch.zeros(1)}, theirs / "model_20.safetensors")


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (trained_here, {}, "which this project trained itself: give another run_id"),
        (a_file_is_gone, {}, "from model_20.safetensors, which cataloging.source does"),
        (a_file_changed, {}, "imported from other than now: bytes: "),
        (lambda *_: None, {"names": "weight"}, "names: None -> 'weight'. Give another"),
    ],
    ids=range(4),
)
def test_two_trainings_never_mix_under_one_name(
    theirs: Path,
    ours: CheckpointsDataset,
    change: Any,
    options: dict[str, str],
    message: str,
) -> None:
    run(theirs, ours, stop=1)
    change(theirs, ours)
    with pytest.raises(DataError) as caught:
        run(theirs, ours, **options)
    assert f"{ours.load().folder} holds {NAMES[0]}, which" in str(caught.value)
    assert message in str(caught.value)


def test_no_source_is_refused_with_the_command(ours: CheckpointsDataset) -> None:
    message = r"--params=cataloging\.source=<folder>,run_id=<name>"
    with pytest.raises(ParameterError, match=message):
        next(import_checkpoints(None, ours.load()))


def test_the_disk_that_it_takes_is_told_and_too_little_is_warned_of(
    theirs: Path,
    ours: CheckpointsDataset,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = "lct_pipeline.pipelines.cataloging.checkpoints"
    caplog.set_level(logging.INFO, module)
    run(theirs, ours, stop=1)
    full = SimpleNamespace(free=100)
    monkeypatch.setattr(f"{module}.shutil.disk_usage", lambda _: full)
    run(theirs, ours)
    told = [r for r in caplog.records if "to copy as float32" in r.getMessage()]
    first, second = told
    said = f"checkpoints to copy as float32: 0.00 GiB in {ours.load().folder}, where "
    assert first.getMessage().startswith(f"3 {said}") and first.levelname == "INFO"
    assert second.getMessage() == f"2 {said}0.00 GiB are free."
    assert second.levelname == "WARNING"


def test_the_pipeline_copies_and_indexes_and_runs_again(
    project: Path, theirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    run_folder = project / "data" / "06_models" / "a-run"
    source = {"source": str(theirs)}
    for _ in range(2):
        run_stages(project, "catalog", run_id="a-run", cataloging=source)
        assert CheckpointStore(run_folder / "checkpoints").names() == NAMES
        index = pd.read_parquet(run_folder / "checkpoint_index.parquet")
        assert list(index["name"]) == NAMES
