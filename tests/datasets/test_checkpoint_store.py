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


def test_a_save_adds_and_replaces_by_name_and_names_are_sorted(
    store: CheckpointStore,
) -> None:
    (store.folder / ".tmp-1-step-000020-raw.safetensors").write_bytes(b"half")
    assert (store.names(), store.run) == (NAMES, "run-a")
    new = TensorFile({"x": torch.zeros(1)}, {"step": 99})
    CheckpointsDataset(path=str(store.folder)).save({NAMES[0]: new, "z": new})
    headers = store.headers()
    assert list(headers) == store.names() == [*NAMES, "z"]
    assert [header.step for header in headers.values()] == [99, 10, 15, 99]
    assert [h.digest for h in headers.values()] == [store.digest(n) for n in headers]
    assert len({header.digest for header in headers.values()}) == 3


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


def test_a_checkpoint_is_read_under_its_own_digest_only(store: CheckpointStore) -> None:
    first, second = (store.digest(name) for name in NAMES[:2])
    tensors = store.read(NAMES[0], first).tensors
    assert torch.equal(tensors["in.bias"], weights(0)["in.bias"])
    path = store.path(NAMES[0])
    with pytest.raises(DataError, match=rf"{path.name} is not the checkpoint that was"):
        store.read(NAMES[0], second)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert store.header(NAMES[0]).step == 5  # is read without the tensors
    with pytest.raises(DataError, match=rf"{path.name} was altered"):
        store.read(NAMES[0])
    with pytest.raises(DataError, match=r"nothing\.safetensors is missing"):
        store.read("nothing")


def file(step: int) -> TensorFile:
    return TensorFile(weights(step), {"step": step, "kind": "raw"})


def test_they_exist_with_the_last_until_another_is_saved_and_load_before(
    tmp_path: Path,
) -> None:
    dataset = CheckpointsDataset(path=str(tmp_path / "checkpoints"))
    assert not dataset.exists() and dataset.load().names() == []
    steps: list[tuple[Any, bool, int]] = [
        ({NAMES[0]: file(5)}, False, 1),
        (Last({NAMES[1]: file(10)}), True, 2),
        ({NAMES[2]: file(15)}, False, 3),
        (Last({}), True, 3),
    ]
    for data, exists, num in steps:
        dataset.save(data)
        assert dataset.exists() == exists
        assert dataset.load().names() == NAMES[:num]
    dataset.load().path(NAMES[1]).unlink()
    assert not dataset.exists()


def test_the_digest_is_of_names_and_contents_alone(tmp_path: Path) -> None:
    dataset, digests = CheckpointsDataset(path=str(tmp_path)), []
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


def test_the_index_loads_with_the_checkpoints(store: CheckpointStore) -> None:
    checkpoints = {
        "type": "lct_pipeline.datasets.checkpoints.CheckpointsDataset",
        "path": str(store.folder),
    }
    path = store.folder.parent / "checkpoint_index.parquet"
    dataset = CheckpointIndexDataset(filepath=str(path), checkpoints=checkpoints)
    assert not dataset.exists() and dataset.preview() is None
    with pytest.raises(DatasetError) as caught:
        dataset.load()
    message = "checkpoint_index.parquet is not there"
    assert message in str(user_error_in(caught.value))
    rows = pd.DataFrame(
        [(n, h.step, h.digest) for n, h in store.headers().items()],
        columns=["name", "step", "digest"],
    )
    dataset.save(rows)
    found = dataset.load()
    pd.testing.assert_frame_equal(found.rows, rows)
    assert found.store == store
    preview = dataset.preview()
    assert preview["columns"] == list(rows)
    assert [row[:2] for row in preview["data"]] == [
        [n, store.header(n).step] for n in NAMES
    ]
