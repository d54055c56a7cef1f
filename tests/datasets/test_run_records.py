"""The records of a run: one for each session, replaced while it runs."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from kedro.io import DatasetError

from lct_pipeline.datasets.run_records import RunRecordsDataset

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
        dataset.save({"started": started})
    assert [record["started"] for record in dataset.load()] == [FIRST, SECOND]
    assert json.loads(dataset.preview()) == {"started": SECOND}


def test_the_record_of_a_session_is_replaced(dataset: RunRecordsDataset) -> None:
    for status in ("running", "finished"):
        dataset.save({"started": FIRST, "status": status})
    assert dataset.load() == [{"started": FIRST, "status": "finished"}]


def test_what_a_killed_write_left_is_not_read(
    dataset: RunRecordsDataset, tmp_path: Path
) -> None:
    dataset.save({"started": FIRST})
    (tmp_path / "records" / ".tmp-1-x.json").write_text("{")
    assert len(dataset.load()) == 1


def test_a_damaged_record_is_named(dataset: RunRecordsDataset, tmp_path: Path) -> None:
    dataset.save({"started": FIRST})
    (tmp_path / "records" / "broken.json").write_text("{")
    with pytest.raises(DatasetError) as caught:
        dataset.load()
    assert "broken.json" in str(caught.value.__cause__ or caught.value)


def test_a_run_that_is_held_is_waited_for(
    dataset: RunRecordsDataset, caplog: pytest.LogCaptureFixture
) -> None:
    first = dataset.hold()
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(dataset.hold)
        while "works on run" not in caplog.text:
            time.sleep(0.01)
        assert not second.done()
        first.release()
        second.result(timeout=20).release()
