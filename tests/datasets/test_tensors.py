"""Single tensor files, and folders of checkpoints."""

from pathlib import Path

import pytest
import torch
from kedro.io import DatasetError

from lct_pipeline.datasets.files import DIGEST_KEY
from lct_pipeline.datasets.tensors import (
    CheckpointsDataset,
    CheckpointStore,
    TensorFile,
    TensorFileDataset,
)
from lct_pipeline.errors import DataError

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
    return [header[DIGEST_KEY] for header in store.headers().values()]


def test_a_tensor_file_comes_back_as_saved(tmp_path: Path) -> None:
    dataset = TensorFileDataset(filepath=str(tmp_path / "deep" / "a.safetensors"))
    assert not dataset.exists()
    dataset.save(TensorFile(weights(0), {"sigma": 0.5, "names": ["a", None]}))
    found = dataset.load()
    assert dataset.exists()
    assert found.metadata == {"sigma": 0.5, "names": ["a", None]}
    assert found.tensors.keys() == weights(0).keys()
    assert all(torch.equal(found.tensors[name], t) for name, t in weights(0).items())


def test_a_missing_file_is_named_with_the_command_that_writes_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "model.safetensors"
    dataset = TensorFileDataset(filepath=str(path), written_by="combine")
    with pytest.raises(DatasetError, match=r"model\.safetensors is not there\. .*comb"):
        dataset.load()


def test_an_optional_missing_file_loads_as_none(tmp_path: Path) -> None:
    dataset = TensorFileDataset(filepath=str(tmp_path / "a"), optional=True)
    assert dataset.load() is None


def test_an_optional_file_that_is_damaged_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    dataset = TensorFileDataset(filepath=str(path), optional=True)
    dataset.save(TensorFile(weights(0)))
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DatasetError, match=r"a\.safetensors is truncated") as caught:
        dataset.load()
    assert isinstance(caught.value.__cause__, DataError)


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
    assert [headers[name]["step"] for name in NAMES] == [5, 10, 15]
    assert len(set(digests(store))) == 3


def test_a_header_is_read_without_the_tensors(store: CheckpointStore) -> None:
    path = store.path(NAMES[0])
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert store.header(NAMES[0])["step"] == 5
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
