from __future__ import annotations

import tracemalloc
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from lct_pipeline.core.linear_combination import WeightLayout, WeightMatrix
from lct_pipeline.datasets.checkpoint_matrix import checkpoint_matrix
from lct_pipeline.datasets.checkpoints import CheckpointsDataset, CheckpointStore
from lct_pipeline.datasets.tensors import TensorFile, write_tensors
from lct_pipeline.errors import DataError

NAMES = ["step-000005-raw", "step-000010-raw", "step-000015-raw"]

Tensors = dict[str, torch.Tensor]


def weights(seed: int) -> Tensors:
    """Return tensors whose order by name is not that of the file, which is by type."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "out.weight": torch.randn(2, 3, generator=generator),
        "in.count": torch.tensor(100 + seed),
        "in.bias": torch.randn(4, generator=generator),
        "in.weight": torch.randn(4, 1, 2, generator=generator),
        "in.frozen": torch.full((3,), 0.1),
        "in.mask": torch.tensor([True, False, True]),
    }


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    dataset = CheckpointsDataset(path=str(tmp_path / "run-a" / "checkpoints"))
    for seed, name in enumerate(NAMES):
        dataset.save({name: TensorFile(weights(seed), {"step": 5 * seed + 5})})
    return dataset.load()


def matrix_of(
    store: CheckpointStore, names: list[str] = NAMES
) -> tuple[WeightMatrix, WeightLayout]:
    return checkpoint_matrix(store, names, digests(store, names))


def digests(store: CheckpointStore, names: list[str] = NAMES) -> list[str]:
    return [store.digest(name) for name in names]


def replace(store: CheckpointStore, number: int, changes: Tensors) -> None:
    """Write a checkpoint again with other tensors, as another training would."""
    tensors = {**weights(number), **changes}
    write_tensors(store.path(NAMES[number]), tensors, {"step": 0})


def values(matrix: WeightMatrix, columns: slice) -> np.ndarray:
    size = (matrix.shape[0], columns.stop - columns.start)
    out = np.full(size, np.nan, np.float32)
    matrix.read(columns, out)
    return out


@pytest.mark.parametrize(
    "columns", [slice(0, 21), slice(5, 11), slice(20, 21)], ids=str
)
def test_a_block_of_columns_is_that_of_the_stack_of_the_flattened_tensors(
    store: CheckpointStore, columns: slice
) -> None:
    matrix, layout = matrix_of(store)
    floating = [n for n, t in weights(0).items() if t.is_floating_point()]
    assert list(layout.shapes) == sorted(floating) and matrix.shape == (3, 21)
    stack = np.stack([layout.flatten(weights(seed)) for seed in range(3)])
    np.testing.assert_array_equal(values(matrix, columns), stack[:, columns])
    some = values(matrix.rows([2, 0]), columns)
    np.testing.assert_array_equal(some, stack[[2, 0], columns])
    backwards, _ = matrix_of(store, NAMES[::-1])
    np.testing.assert_array_equal(values(backwards, columns), stack[::-1, columns])


def test_integers_of_the_last_and_what_is_the_same_in_all_are_constants(
    store: CheckpointStore,
) -> None:
    constants = matrix_of(store)[1].constants
    assert constants.keys() == {"in.count", "in.mask", "in.frozen"}
    assert torch.equal(constants["in.frozen"], torch.full((3,), 0.1))
    assert constants["in.count"] == 102
    assert matrix_of(store, NAMES[::-1])[1].constants["in.count"] == 100
    assert matrix_of(store, NAMES[:1])[1].constants.keys() == weights(0).keys()
    replace(store, 1, {"in.frozen": torch.full((3,), 0.2)})  # neither first nor last
    assert "in.frozen" not in matrix_of(store)[1].constants


def test_memory_does_not_hold_the_checkpoints(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    num, names = 1_000_000, [f"step-{n}" for n in range(4)]
    for number, name in enumerate(names):
        write_tensors(store.path(name), {"w": torch.full((num,), float(number))}, {})
    given = digests(store, names)
    tracemalloc.start()
    try:
        matrix, _ = checkpoint_matrix(store, names, given)
        block = values(matrix, slice(500_000, 500_010))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert block[:, 0].tolist() == [0, 1, 2, 3]
    assert peak < num  # bytes: a quarter of one checkpoint
    for row in matrix.vectors:
        assert isinstance(row, np.memmap)
        assert not row.flags.writeable


def test_no_more_than_three_checkpoints_are_held_however_many_there_are(
    tmp_path: Path,
) -> None:
    read: list[list[weakref.ref[torch.Tensor]]] = []
    held: list[int] = []

    def num_alive() -> int:
        return sum(any(tensor() is not None for tensor in file) for file in read)

    class WatchedStore(CheckpointStore):
        def read(self, name: str, digest: str | None = None) -> TensorFile:
            file = super().read(name, digest)
            read.append([weakref.ref(tensor) for tensor in file.tensors.values()])
            held.append(num_alive())
            return file

    store, names = WatchedStore(tmp_path), [f"step-{n}" for n in range(6)]
    for number, name in enumerate(names):
        write_tensors(store.path(name), weights(number), {})
    matrix, _ = matrix_of(store, names)
    assert len(held) == 6
    assert max(held) <= 3  # the first, and the last two
    assert num_alive() == 0
    assert matrix.shape == (6, 21)


def test_another_digest_an_altered_and_a_missing_file_are_refused(
    store: CheckpointStore,
) -> None:
    given, path = digests(store), store.path(NAMES[2])
    with pytest.raises(
        DataError, match=rf"{NAMES[1]}\.safetensors is not the checkpoi"
    ):
        checkpoint_matrix(store, NAMES, [given[0], given[0], given[2]])
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"{NAMES[2]}\.safetensors was altered"):
        checkpoint_matrix(store, NAMES, given)
    path.unlink()
    with pytest.raises(DataError, match=rf"{NAMES[2]}\.safetensors is missing"):
        checkpoint_matrix(store, NAMES, given)


@pytest.mark.parametrize(
    ("name", "tensor", "found"),
    [
        ("in.bias", torch.zeros(5), r"float32 \(5,\), expected float32 \(4,\)"),
        ("in.bias", torch.arange(4), r"int64 \(4,\), expected float32 \(4,\)"),
        ("in.mask", torch.arange(3), r"int64 \(3,\), expected bool \(3,\)"),
        ("extra", torch.zeros(2), r"float32 \(2,\), expected none"),
        ("out.weight", None, r"missing, expected float32 \(2, 3\)"),
        ("in.count", None, r"missing, expected int64 \(\)"),
    ],
)
def test_a_tensor_of_another_network_is_named_with_its_file(
    store: CheckpointStore, name: str, tensor: torch.Tensor | None, found: str
) -> None:
    tensors = {**weights(2), name: tensor}
    kept = {n: t for n, t in tensors.items() if t is not None}
    write_tensors(store.path(NAMES[2]), kept, {"step": 0})
    message = rf"{NAMES[2]}\.safetensors is of another network .*'{name}' is {found}"
    with pytest.raises(DataError, match=message):
        matrix_of(store)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_than_float32_are_refused(
    store: CheckpointStore, number: int, dtype: torch.dtype
) -> None:
    replace(store, number, {"in.bias": torch.zeros(4, dtype=dtype)})
    message = (
        rf"{NAMES[number]}\.safetensors: tensor 'in.bias' is {dtype}; only float32"
    )
    with pytest.raises(DataError, match=message):
        matrix_of(store)


def test_a_checkpoint_without_floats_is_refused(store: CheckpointStore) -> None:
    write_tensors(store.path(NAMES[0]), {"steps": torch.arange(3)}, {})
    message = rf"{NAMES[0]}\.safetensors has no floating-point tensor"
    with pytest.raises(DataError, match=message):
        matrix_of(store)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("number", [0, 2])
def test_values_that_are_not_finite_are_refused(
    store: CheckpointStore, value: float, number: int
) -> None:
    replace(store, number, {"in.bias": torch.tensor([0.0, 1.0, value, 2.0])})
    message = rf"{NAMES[number]}\.safetensors: tensor 'in.bias' has values that are not"
    with pytest.raises(DataError, match=message):
        matrix_of(store)
