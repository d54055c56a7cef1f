"""What a run has left, by the names of its results."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from kedro.io import DatasetError, Version
from making_runs import combination, make_record, row

from lct_pipeline.datasets.atomic import AtomicDataset, ResultDataset
from lct_pipeline.datasets.checkpoints import CheckpointsDataset
from lct_pipeline.datasets.parts import ParquetPartsDataset
from lct_pipeline.datasets.results import EvaluationResult, Result
from lct_pipeline.datasets.run_folder import RunFolder, RunFolderDataset
from lct_pipeline.datasets.run_records import RunRecordsDataset
from lct_pipeline.datasets.tensors import TensorFile, TensorFileDataset
from lct_pipeline.errors import DataError

TABLE = pd.DataFrame({"step": [5, 10], "loss": [1.0, 0.5]})
VERSIONS = ("2026-01-01T00.00.00.000Z", "2026-01-02T00.00.00.000Z")


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    models, reporting = (str(tmp_path / top / "mine") for top in ("models", "reports"))
    return RunFolderDataset(path=models, filepath=reporting).load()


def save_versions(path: Path) -> None:
    for number, version in enumerate(VERSIONS):
        dataset = AtomicDataset(filepath=str(path), version=Version(None, version))
        dataset.save(TABLE.assign(version=number))


def test_a_run_that_has_left_nothing_has_none_of_it(run: RunFolder) -> None:
    assert run.name == "mine"
    assert run.checkpoints.names() == []
    assert run.records == []
    found: list[Any] = [
        run.values("x"),
        run.table("x"),
        run.tensors("x"),
        run.picture("x"),
    ]
    assert found == [None] * 4
    assert (run.evaluation, run.combination) == ([], None)


def test_results_come_back_as_their_types(run: RunFolder) -> None:
    saved: dict[Path, Result] = {
        run.reporting / "evaluation.json": EvaluationResult(rows=[row("last", 2.0)]),
        run.models / "combination.json": combination(),
    }
    for path, result in saved.items():
        ResultDataset(filepath=str(path), result=path.stem).save(result)
    assert run.evaluation == [row("last", 2.0)]
    assert run.combination == combination()


def test_a_result_of_another_version_is_refused(run: RunFolder) -> None:
    path = run.models / "combination.json"
    AtomicDataset(filepath=str(path)).save({"is_selected": True})
    with pytest.raises(DataError, match=r"CombinationResult\..* not as this version"):
        _ = run.combination


@pytest.mark.parametrize("folder", ["models", "reporting"])
def test_results_are_found_in_both_folders(run: RunFolder, folder: str) -> None:
    top: Path = getattr(run, folder)
    file = TensorFile({"x": torch.ones(2)}, {"a": 1})
    AtomicDataset(filepath=str(top / "values.json")).save({"a": [1, None]})
    AtomicDataset(filepath=str(top / "table.parquet")).save(TABLE)
    TensorFileDataset(filepath=str(top / "tensors.safetensors")).save(file)
    (top / "picture.png").write_bytes(b"png")
    assert run.values("values") == {"a": [1, None]}
    pd.testing.assert_frame_equal(run.table("table"), TABLE)
    found = run.tensors("tensors")
    assert found is not None
    assert found.metadata == {"a": 1}
    assert torch.equal(found.tensors["x"], torch.ones(2))
    assert run.picture("picture") == b"png"


def test_a_table_without_rows_is_none(run: RunFolder) -> None:
    AtomicDataset(filepath=str(run.reporting / "table.parquet")).save(TABLE[:0])
    assert run.table("table") is None


def test_of_a_versioned_table_the_newest_counts(run: RunFolder) -> None:
    save_versions(run.reporting / "table.parquet")
    found = run.table("table")
    assert found is not None
    assert set(found["version"]) == {1}


def test_what_a_killed_save_left_is_not_read(run: RunFolder) -> None:
    path = run.reporting / "table.parquet"
    later = path / "2026-01-03T00.00.00.000Z" / ".tmp-1-table.parquet"
    later.parent.mkdir(parents=True)
    later.write_bytes(b"half")
    assert run.table("table") is None
    save_versions(path)
    found = run.table("table")
    assert found is not None
    assert set(found["version"]) == {1}


def test_a_table_in_parts_is_put_together(run: RunFolder) -> None:
    dataset = ParquetPartsDataset(path=str(run.models / "metrics"), key="step")
    dataset.save(TABLE.assign(step=[100, 105]))
    dataset.save(TABLE)
    found = run.table("metrics")
    assert found is not None
    assert found["step"].tolist() == [5, 10, 100, 105]
    assert found.index.tolist() == [0, 1, 2, 3]


def test_records_and_checkpoints_are_those_of_the_run(run: RunFolder) -> None:
    records = RunRecordsDataset(path=str(run.reporting / "records"))
    for started in VERSIONS[::-1]:
        records.save(make_record(started=started))
    checkpoints = CheckpointsDataset(path=str(run.models / "checkpoints"))
    checkpoints.save({"step-5-raw": TensorFile({"x": torch.ones(1)}, {"step": 5})})
    assert [record.started for record in run.records] == list(VERSIONS)
    assert run.checkpoints.names() == ["step-5-raw"]
    assert run.checkpoints.run == "mine"


def test_tensors_are_verified(run: RunFolder) -> None:
    path = run.models / "tensors.safetensors"
    TensorFileDataset(filepath=str(path)).save(TensorFile({"x": torch.ones(2)}))
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(DataError, match="was altered"):
        run.tensors("tensors")


def test_nothing_is_read_before_it_is_asked_for(run: RunFolder) -> None:
    AtomicDataset(filepath=str(run.reporting / "evaluation.json")).save({"rows": []})
    assert run.values("evaluation") == {"rows": []}
    (run.reporting / "evaluation.json").write_text(json.dumps({"rows": [1]}))
    assert run.values("evaluation") == {"rows": [1]}


def test_it_is_only_read(tmp_path: Path) -> None:
    dataset: Any = RunFolderDataset(path=str(tmp_path), filepath=str(tmp_path))
    with pytest.raises(DatasetError, match="written by the datasets of its results"):
        dataset.save({})
