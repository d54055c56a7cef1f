"""Two versions of the code compared by what their runs left."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

import pins
from pinned_values import Comparison, compared, pinned_values

ROW = {"model": "last", "nfe": 1, "metric": "distance", "value": 1.5, "versions": "1"}
Change = Callable[[Path], Any]


def make_run(data: Path, *, run: str = "one", digest: str = "0123abcd") -> Path:
    """Make a small run and return its folder of models."""
    latents = data / "04_feature" / f"digits-{digest}" / "latents"
    models, reports = data / "06_models" / run, data / "08_reporting" / run
    for folder in (latents, models / "search" / "history", reports):
        folder.mkdir(parents=True)
    save_file({"mean": torch.zeros(2)}, latents / "shard-00000.safetensors")
    write_weights(models / "kept.safetensors", 1.0, {"parameters": run})
    (models / "combination.json").write_text(json.dumps({"alpha": [0.5, 0.5]}))
    (reports / "evaluation.json").write_text(json.dumps({"rows": [ROW]}))
    (data / "08_reporting" / "evaluation.json").write_text("{}")  # a copy of the latest
    for part, loss in enumerate((2.0, float("nan"))):
        write_part(models, part, loss, seconds=len(run))
    return models


def write_weights(
    path: Path, value: float, metadata: dict[str, str] | None = None
) -> None:
    save_file({"w": torch.tensor([value, 2.0]), "b": torch.ones(1)}, path, metadata)


def write_part(models: Path, part: int, loss: float, *, seconds: float = 0) -> None:
    table = pd.DataFrame({"step": [part], "loss": [loss], "wait_seconds": [seconds]})
    table.to_parquet(models / "search" / "history" / f"part-{part}.parquet")


def differences(tmp_path: Path, make: Change) -> list[Comparison]:
    """Return what differs from a run in one that was made under other names, and changed."""
    make_run(tmp_path / "old")
    make(make_run(tmp_path / "new", run="another", digest="ffff0000"))
    old, new = (pinned_values(tmp_path / name) for name in ("old", "new"))
    return [value for value in compared(old, new) if value.kind != "same"]


def test_names_of_runs_metadata_times_and_copies_do_not_count(tmp_path: Path) -> None:
    assert differences(tmp_path, lambda models: None) == []
    names = list(pinned_values(tmp_path / "old"))
    assert names == [
        "combination.json",
        "evaluation.json",
        "kept.safetensors",
        "latents/shard-00000.safetensors",
        "search/history.parquet",
    ]


def test_a_changed_tensor_is_found(tmp_path: Path) -> None:
    def make(models: Path) -> None:
        write_weights(models / "kept.safetensors", 1.0000001)

    (found,) = differences(tmp_path, make)
    assert found[:3] == ("selected.safetensors", "w", "changed")


def test_another_type_or_shape_of_the_same_bytes_is_a_change(tmp_path: Path) -> None:
    def make(models: Path) -> None:
        tensors = {"w": torch.tensor([[1.0, 2.0]]), "b": torch.ones(1).view(torch.int)}
        save_file(tensors, models / "kept.safetensors")

    assert [value.name for value in differences(tmp_path, make)] == ["b", "w"]


def test_a_renamed_file_is_the_same(tmp_path: Path) -> None:
    def make(models: Path) -> None:
        old = models / "kept.safetensors"
        old.rename(models / "selected.safetensors")

    assert differences(tmp_path, make) == []


def test_a_column_has_a_new_name_in_each_file() -> None:
    old = {"td_summary.parquet": {"spread": [1]}, "a.parquet": {"spread": [2]}}
    old |= {"training_metrics.parquet": {"spread": [3]}}
    new = {"td_summary.parquet": {"std": [1]}, "a.parquet": {"spread": [2]}}
    new |= {"training_metrics.parquet": {"td_rms": [3]}}
    assert {value.kind for value in compared(old, new)} == {"same"}


@pytest.mark.parametrize(
    ("name", "change", "what"),
    [
        ("rows[last, 1, distance].value", {"value": 1.25}, "1.5 -> 1.25"),
        ("rows[last, 1, distance].value", {"value": None}, "1.5 -> None"),
    ],
)
def test_a_changed_row_of_the_evaluation_is_found(
    tmp_path: Path, name: str, change: dict[str, Any], what: str
) -> None:
    def make(models: Path) -> None:
        path = models.parents[1] / "08_reporting" / models.name / "evaluation.json"
        path.write_text(json.dumps({"rows": [ROW | change | {"versions": "2"}]}))

    expected = Comparison("evaluation.json", name, "changed", what)
    assert differences(tmp_path, make) == [expected]


def test_a_changed_number_of_a_table_or_a_list_is_found(tmp_path: Path) -> None:
    def make(models: Path) -> None:
        write_part(models, 1, 7.0)
        text = json.dumps({"alpha": [0.5, 0.25]})
        (models / "combination.json").write_text(text)

    what = [(value.name, value.what) for value in differences(tmp_path, make)]
    assert what == [
        ("alpha", "1 of 2, first row 1: 0.5 -> 0.25"),
        ("loss", "1 of 2, first row 1: None -> 7.0"),
    ]


def test_of_a_versioned_table_the_last_counts(tmp_path: Path) -> None:
    def versions(models: Path, *values: float) -> None:
        for number, value in enumerate(values):
            folder = models / "report.parquet" / f"2026-01-01T00.00.0{number}.000Z"
            folder.mkdir(parents=True)
            pd.DataFrame({"fid": [value]}).to_parquet(folder / "report.parquet")

    versions(make_run(tmp_path / "once"), 2.0)
    versions(make_run(tmp_path / "twice"), 1.0, 2.0)
    once, twice = (pinned_values(tmp_path / name) for name in ("once", "twice"))
    assert once["report.parquet"] == {"fid": [2.0]}
    assert once == twice


def test_missing_fails_and_new_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = make_run(tmp_path)
    whole = pinned_values(tmp_path)
    (models / "combination.json").unlink()
    less = pinned_values(tmp_path)
    assert pins.report(compared(less, whole))
    assert "new: combination.json, alpha\n" in capsys.readouterr().out
    assert not pins.report(compared(whole, less))
    assert "missing: combination.json, alpha\n" in capsys.readouterr().out


def test_a_kept_commit_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pins, "FOLDER", tmp_path / "pins")
    monkeypatch.setattr(pins, "commit_of", lambda revision: revision)
    monkeypatch.setattr(pins, "measured", None)  # may not be called
    make_run(tmp_path / "data")
    for commit in ("a", "b"):
        kept = tmp_path / "pins" / commit / "smoke.json"
        pins.write_pins(kept, pinned_values(tmp_path / "data"))
    monkeypatch.setattr("sys.argv", ["pins.py", "a", "b", "--recipes=smoke"])
    assert pins.main() == 0
    assert "All values are the same." in capsys.readouterr().out
    monkeypatch.setattr(pins, "processor", lambda: "another")
    assert not pins.is_current(kept)
