"""Folders of checkpoints, and their index."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from describing import described
from kedro.io import DatasetError

from lct_pipeline.datasets.checkpoints import (
    CheckpointHeader,
    CheckpointIndexDataset,
    CheckpointsDataset,
    CheckpointStore,
)
from lct_pipeline.datasets.parts import Last
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import DataError, user_error_in

NAMES = ["step-000005-raw", "step-000010-raw", "step-000015-raw"]


def weights(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "out.weight": torch.randn(2, 3, generator=generator),
        "in.bias": torch.randn(4, generator=generator),
        "in.weight": torch.randn(4, 1, 2, generator=generator),
    }


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    dataset = CheckpointsDataset(path=str(tmp_path / "run-a" / "checkpoints"))
    for seed in (2, 0, 1):
        dataset.save({NAMES[seed]: TensorFile(weights(seed), {"step": 5 * seed + 5})})
    return dataset.load()


def digests(store: CheckpointStore) -> list[str]:
    return [store.digest(name) for name in store.names()]


def test_names_are_sorted_whatever_the_order_of_saving(store: CheckpointStore) -> None:
    assert store.names() == NAMES
    assert store.run == "run-a"


def test_a_save_adds_and_replaces_by_name(store: CheckpointStore) -> None:
    new = TensorFile({"x": torch.zeros(1)}, {"step": 99})
    CheckpointsDataset(path=str(store.folder)).save({NAMES[0]: new, "z": new})
    assert store.names() == [*NAMES, "z"]
    assert store.read(NAMES[0]).metadata == {"step": 99}
    assert store.read(NAMES[1]).metadata == {"step": 10}


def test_leftover_temporary_checkpoints_are_not_named(store: CheckpointStore) -> None:
    (store.folder / ".tmp-1-step-000020-raw.safetensors").write_bytes(b"half")
    assert store.names() == NAMES
    assert list(store.headers()) == NAMES


def test_an_empty_folder_holds_no_checkpoint(tmp_path: Path) -> None:
    dataset = CheckpointsDataset(path=str(tmp_path / "none"))
    assert not dataset.exists()
    assert dataset.load().names() == []


def test_headers_hold_metadata_and_digests(store: CheckpointStore) -> None:
    headers = store.headers()
    assert [headers[name].step for name in NAMES] == [5, 10, 15]
    assert [headers[name].digest for name in NAMES] == digests(store)
    assert len(set(digests(store))) == 3


HEADERS = {
    "ours": CheckpointHeader(
        5, "ema", 80, 4, True, 0.5, described(), 0.9, parameters_digest="abc"
    ),
    "of another trainer": CheckpointHeader(5, source={"file": "5.pt", "bytes": 7}),
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_a_header_comes_back_as_written_with_its_digest(
    tmp_path: Path, header: CheckpointHeader
) -> None:
    dataset = CheckpointsDataset(path=str(tmp_path))
    dataset.save({NAMES[0]: TensorFile(weights(0), header.as_metadata())})
    store = dataset.load()
    assert store.read(NAMES[0]).metadata == header.as_metadata()
    assert store.header(NAMES[0]) == replace(header, digest=store.digest(NAMES[0]))


def test_only_checkpoints_of_another_trainer_name_a_source() -> None:
    ours, other = (header.as_metadata() for header in HEADERS.values())
    assert other.keys() - ours.keys() == {"source"}
    assert ours["network"] == described().as_json()
    assert {key for key, value in other.items() if value is None} == {
        "num_images",
        "num_levels",
        "loss",
        "network",
        "ema_rate",
        "ema_width",
        "parameters_digest",
    }


@pytest.mark.parametrize(
    ("metadata", "fault"),
    [
        ({"kind": "raw"}, "lacks the key 'step'"),
        ({"step": 5, "width": 3}, "has the unknown key 'width'"),
        ({"step": 5, "network": {}}, "a model lacks the key 'model'"),
    ],
    ids=str,
)
def test_a_header_of_another_version_is_refused(
    store: CheckpointStore, metadata: dict[str, Any], fault: str
) -> None:
    CheckpointsDataset(path=str(store.folder)).save({"a": TensorFile({}, metadata)})
    with pytest.raises(DataError, match=fault):
        store.header("a")


def test_another_trainer_describes_no_network(store: CheckpointStore) -> None:
    with pytest.raises(DataError, match=rf"{NAMES[0]}.*written by another trainer"):
        store.network(NAMES[0])


def test_a_header_is_read_without_the_tensors(store: CheckpointStore) -> None:
    path = store.path(NAMES[0])
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert store.header(NAMES[0]).step == 5
    with pytest.raises(DataError, match=rf"{NAMES[0]}\.safetensors was altered"):
        store.read(NAMES[0])


def test_a_checkpoint_is_read_under_its_own_digest_only(store: CheckpointStore) -> None:
    first, second, _ = digests(store)
    tensors = store.read(NAMES[0], first).tensors
    assert torch.equal(tensors["in.bias"], weights(0)["in.bias"])
    message = rf"{NAMES[0]}\.safetensors is not the checkpoint that was cataloged"
    with pytest.raises(DataError, match=message):
        store.read(NAMES[0], second)


def test_reading_a_missing_checkpoint_names_its_file(store: CheckpointStore) -> None:
    with pytest.raises(DataError, match=r"nothing\.safetensors is missing"):
        store.read("nothing")


def file(step: int) -> TensorFile:
    return TensorFile(weights(step), {"step": step, "kind": "raw"})


class TestCompleteness:
    """Checkpoints are written as training goes on, and exist when it has ended."""

    @pytest.fixture
    def dataset(self, tmp_path: Path) -> CheckpointsDataset:
        return CheckpointsDataset(path=str(tmp_path / "checkpoints"))

    def test_they_exist_when_the_last_are_saved_and_load_before(
        self, dataset: CheckpointsDataset
    ) -> None:
        dataset.save({NAMES[0]: file(5)})
        assert not dataset.exists()
        assert dataset.load().names() == NAMES[:1]
        dataset.save(Last({NAMES[1]: file(10)}))
        assert dataset.exists()
        assert dataset.load().names() == NAMES[:2]

    def test_the_last_may_be_none_more(self, dataset: CheckpointsDataset) -> None:
        dataset.save({NAMES[0]: file(5)})
        dataset.save(Last({}))
        assert dataset.exists()
        assert dataset.load().names() == NAMES[:1]

    def test_a_later_save_that_is_not_the_last_takes_that_away(
        self, dataset: CheckpointsDataset
    ) -> None:
        dataset.save(Last({NAMES[0]: file(5)}))
        dataset.save({NAMES[1]: file(10)})
        assert not dataset.exists()
        dataset.save(Last({}))
        assert dataset.exists()

    def test_a_deleted_file_makes_them_incomplete(
        self, dataset: CheckpointsDataset
    ) -> None:
        dataset.save(Last({name: file(5) for name in NAMES}))
        dataset.load().path(NAMES[1]).unlink()
        assert not dataset.exists()

    def test_the_digest_is_of_names_and_contents_alone(
        self, dataset: CheckpointsDataset
    ) -> None:
        digests = []
        for data in (
            {NAMES[0]: file(5)},
            Last({NAMES[0]: file(5)}),
            {NAMES[0]: file(10)},
            {NAMES[1]: file(5)},
        ):
            dataset.save(data)
            digests.append(dataset.content_digest())
        assert digests[0] == digests[1]
        assert len(set(digests)) == 3


class TestIndex:
    """The index of the checkpoints, which loads with them."""

    @pytest.fixture
    def dataset(self, store: CheckpointStore) -> CheckpointIndexDataset:
        checkpoints = {
            "type": "lct_pipeline.datasets.checkpoints.CheckpointsDataset",
            "path": str(store.folder),
        }
        path = store.folder.parent / "checkpoint_index.parquet"
        return CheckpointIndexDataset(filepath=str(path), checkpoints=checkpoints)

    def rows(self, store: CheckpointStore) -> pd.DataFrame:
        found: list[dict[str, Any]] = [
            {"name": name, "step": header.step, "digest": header.digest}
            for name, header in store.headers().items()
        ]
        return pd.DataFrame(found)

    def test_rows_come_back_as_saved_with_the_checkpoints(
        self, dataset: CheckpointIndexDataset, store: CheckpointStore
    ) -> None:
        assert not dataset.exists()
        dataset.save(self.rows(store))
        assert dataset.exists()
        found = dataset.load()
        pd.testing.assert_frame_equal(found.rows, self.rows(store))
        assert found.store == store
        row = found.rows.iloc[1]
        read = found.store.read(row["name"], row["digest"])
        assert read.metadata == {"step": 10}

    def test_a_missing_index_is_named(self, dataset: CheckpointIndexDataset) -> None:
        with pytest.raises(DatasetError) as caught:
            dataset.load()
        assert "checkpoint_index.parquet is not there" in str(
            user_error_in(caught.value)
        )

    def test_its_preview_is_of_its_rows(
        self, dataset: CheckpointIndexDataset, store: CheckpointStore
    ) -> None:
        assert dataset.preview() is None
        dataset.save(self.rows(store))
        found = dataset.preview()
        assert found["columns"] == ["name", "step", "digest"]
        assert [row[:2] for row in found["data"]] == [
            [NAMES[k], 5 * k + 5] for k in range(3)
        ]
