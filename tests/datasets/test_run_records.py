"""The records of a run: one for each session, replaced while it runs."""

import json
from pathlib import Path
from typing import Any

import pytest
from hostile import ADDRESS, CANARY
from making_runs import make_record

from lct_pipeline.datasets.run_records import RunRecordsDataset, read_record
from lct_pipeline.errors import DataError

FIRST, SECOND = "2026-01-01T00.00.00.000Z", "2026-01-02T00.00.00.000Z"


@pytest.fixture
def dataset(tmp_path: Path) -> RunRecordsDataset:
    return RunRecordsDataset(path=str(tmp_path / "records"))


def test_without_records_there_are_none(dataset: RunRecordsDataset) -> None:
    assert dataset.load() == []
    assert not dataset.exists()
    assert dataset.preview() is None


def test_sessions_are_kept_beside_each_other_the_oldest_first(
    dataset: RunRecordsDataset,
) -> None:
    for started in (SECOND, FIRST):
        dataset.save(make_record(started=started))
    assert [record.started for record in dataset.load()] == [FIRST, SECOND]
    assert json.loads(dataset.preview())["started"] == SECOND


def test_the_record_of_a_session_is_replaced(dataset: RunRecordsDataset) -> None:
    for status in ("running", "finished"):
        dataset.save(make_record(started=FIRST, status=status))
    assert [record.status for record in dataset.load()] == ["finished"]


def test_what_a_killed_write_left_is_not_read(
    dataset: RunRecordsDataset, tmp_path: Path
) -> None:
    dataset.save(make_record(started=FIRST))
    (tmp_path / "records" / ".tmp-1-x.json").write_text("{")
    assert len(dataset.load()) == 1


def test_secrets_of_an_old_record_are_not_read(dataset: RunRecordsDataset) -> None:
    dataset.save(make_record(**{"error": ADDRESS, "parameters.a": f'{ADDRESS}"'}))
    (found,) = dataset.load()
    assert found.parameters["a"] == 'https://host/a.zip"'
    assert CANARY not in f"{found}{dataset.preview()}"


def test_a_file_that_is_no_record_is_told_and_hides_no_other(
    dataset: RunRecordsDataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset.save(make_record(started=FIRST))
    (tmp_path / "records" / "broken.json").write_text("{")
    assert len(dataset.load()) == 1
    assert "broken.json is not readable JSON" in caplog.text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("commit", "--output=notes.txt"),
        ("commit", "HEAD~1"),
        ("commit", "a" * 40 + "\n"),
        ("env", "../elsewhere"),
        ("pipelines", ["train; rm"]),
        ("namespaces", ["a b"]),
        ("nodes", [{"node": "$(id)", "seconds": 1, "peak_memory_mib": 1}]),
        ("nodes", [{"node": "n", "seconds": -1, "peak_memory_mib": 1}]),
        ("nodes", [{"node": "n", "seconds": float("inf"), "peak_memory_mib": 1}]),
        ("schedule", {"scheduled_as": "x", "images": None, "continues": "a,b=c"}),
        ("status", "done"),
        ("ended", "2026-02-31T00.00.00.000Z"),
        ("process", -1),
        ("inputs", {"images": "../../etc"}),
        ("outputs", {"a/b": "c" * 64}),
        ("parameters", []),
    ],
)
def test_a_value_of_another_form_is_refused_by_name(
    tmp_path: Path, key: str, value: Any
) -> None:
    path = tmp_path / f"{FIRST}.json"
    path.write_text(json.dumps(make_record(started=FIRST, unknown=1)))
    assert read_record(path).started == FIRST
    path.write_text(json.dumps(make_record(started=FIRST, **{key: value})))
    with pytest.raises(DataError, match=rf"{FIRST}\.json .*(\({key}|JSON).*emove it"):
        read_record(path)
