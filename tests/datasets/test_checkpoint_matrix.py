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


def both_of(
    store: CheckpointStore, names: list[str] = NAMES
) -> tuple[WeightMatrix, WeightLayout]:
    return checkpoint_matrix(store, names, digests(store, names))


def matrix_of(store: CheckpointStore, names: list[str] = NAMES) -> WeightMatrix:
    return both_of(store, names)[0]


def layout_of(store: CheckpointStore, names: list[str] = NAMES) -> WeightLayout:
    return both_of(store, names)[1]


def digests(store: CheckpointStore, names: list[str] = NAMES) -> list[str]:
    return [store.digest(name) for name in names]


def replace(store: CheckpointStore, number: int, changes: Tensors) -> None:
    """Write a checkpoint again with other tensors, as another training would."""
    tensors = {**weights(number), **changes}
    write_tensors(store.path(NAMES[number]), tensors, {"step": 0})


def values(
    matrix: WeightMatrix, columns: slice | None = None, rows: int = 3
) -> np.ndarray:
    columns = columns or slice(0, matrix.shape[1])
    out = np.full((rows, columns.stop - columns.start), np.nan, np.float32)
    matrix.read(columns, out)
    return out


def expected(store: CheckpointStore) -> np.ndarray:
    layout = layout_of(store)
    return np.stack([layout.flatten(weights(seed)) for seed in range(3)])


def test_it_is_the_stack_of_the_flattened_tensors(store: CheckpointStore) -> None:
    matrix = matrix_of(store)
    assert matrix.shape == (3, 21)
    np.testing.assert_array_equal(values(matrix), expected(store))


def test_the_shapes_are_those_of_the_floating_tensors(store: CheckpointStore) -> None:
    floating = {
        n: tuple(t.shape) for n, t in weights(0).items() if t.is_floating_point()
    }
    assert layout_of(store).shapes == floating


@pytest.mark.parametrize("columns", [slice(0, 5), slice(5, 11), slice(20, 21)], ids=str)
def test_a_block_of_columns_is_that_of_the_stack(
    store: CheckpointStore, columns: slice
) -> None:
    matrix = matrix_of(store)
    found = values(matrix, columns)
    np.testing.assert_array_equal(found, expected(store)[:, columns])


def test_the_rows_are_in_the_order_of_the_names(store: CheckpointStore) -> None:
    backwards = values(matrix_of(store, NAMES[::-1]))
    np.testing.assert_array_equal(backwards, values(matrix_of(store))[::-1])


def test_some_rows_can_be_taken_out(store: CheckpointStore) -> None:
    matrix = matrix_of(store)
    some = matrix.rows([2, 0])
    out = np.empty((2, 21), np.float32)
    some.read(slice(0, 21), out)
    assert some.shape == (2, 21)
    np.testing.assert_array_equal(out, expected(store)[[2, 0]])


def test_integer_tensors_come_from_the_last_checkpoint(store: CheckpointStore) -> None:
    assert layout_of(store).constants["in.count"] == 102
    assert layout_of(store, NAMES[::-1]).constants["in.count"] == 100


def test_tensors_that_are_the_same_in_all_are_constants(store: CheckpointStore) -> None:
    constants = layout_of(store).constants
    assert constants.keys() == {"in.count", "in.mask", "in.frozen"}
    assert torch.equal(constants["in.frozen"], torch.full((3,), 0.1))


def test_a_tensor_that_differs_in_one_checkpoint_is_no_constant(
    store: CheckpointStore,
) -> None:
    replace(store, 1, {"in.frozen": torch.full((3,), 0.2)})  # neither first nor last
    assert "in.frozen" not in layout_of(store).constants


def test_of_one_checkpoint_everything_is_constant(store: CheckpointStore) -> None:
    matrix, layout = both_of(store, NAMES[:1])
    assert layout.constants.keys() == weights(0).keys()
    assert matrix.shape == (1, 21)


def test_the_rows_are_memory_maps_that_cannot_be_written(
    store: CheckpointStore,
) -> None:
    for row in matrix_of(store).rows(range(3)).vectors:
        assert isinstance(row, np.memmap)
        assert not row.flags.writeable


def test_memory_does_not_hold_the_checkpoints(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    num, names = 1_000_000, [f"step-{n}" for n in range(4)]
    for number, name in enumerate(names):
        write_tensors(store.path(name), {"w": torch.full((num,), float(number))}, {})
    given = digests(store, names)
    tracemalloc.start()
    try:
        matrix, _ = checkpoint_matrix(store, names, given)
        block = values(matrix, slice(500_000, 500_010), rows=4)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert block[:, 0].tolist() == [0, 1, 2, 3]
    assert peak < num  # bytes: a quarter of one checkpoint


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
    matrix = matrix_of(store, names)
    assert len(held) == 6
    assert max(held) <= 3  # the first, and the last two
    assert num_alive() == 0
    assert matrix.shape == (6, 21)


def test_another_digest_is_refused(store: CheckpointStore) -> None:
    given = digests(store)
    message = rf"{NAMES[1]}\.safetensors is not the checkpoint that was cataloged"
    with pytest.raises(DataError, match=message):
        checkpoint_matrix(store, NAMES, [given[0], given[0], given[2]])


def test_an_altered_file_is_refused(store: CheckpointStore) -> None:
    given, path = digests(store), store.path(NAMES[2])
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"{NAMES[2]}\.safetensors was altered"):
        checkpoint_matrix(store, NAMES, given)


def test_a_missing_file_is_named(store: CheckpointStore) -> None:
    given = digests(store)
    store.path(NAMES[1]).unlink()
    with pytest.raises(DataError, match=rf"{NAMES[1]}\.safetensors is missing"):
        checkpoint_matrix(store, NAMES, given)


@pytest.mark.parametrize(
    ("name", "tensor", "found"),
    [
        ("in.bias", torch.zeros(5), r"F32 \(5,\), expected F32 \(4,\)"),
        ("in.bias", torch.zeros(2, 2), r"F32 \(2, 2\), expected F32 \(4,\)"),
        ("in.bias", torch.arange(4), r"I64 \(4,\), expected F32 \(4,\)"),
        ("in.count", torch.arange(2), r"I64 \(2,\), expected I64 \(\)"),
        ("in.mask", torch.arange(3), r"I64 \(3,\), expected BOOL \(3,\)"),
        ("extra", torch.zeros(2), r"F32 \(2,\), expected none"),
        ("extra", torch.arange(2), r"I64 \(2,\), expected none"),
    ],
)
def test_a_tensor_of_another_network_is_named_with_its_file(
    store: CheckpointStore, name: str, tensor: torch.Tensor, found: str
) -> None:
    replace(store, 2, {name: tensor})
    message = (
        rf"{NAMES[2]}\.safetensors is of another network: tensor '{name}' is {found}"
    )
    with pytest.raises(DataError, match=message):
        matrix_of(store)


@pytest.mark.parametrize(
    ("name", "kind"), [("out.weight", r"F32 \(2, 3\)"), ("in.count", r"I64 \(\)")]
)
def test_a_missing_tensor_is_named_with_its_file(
    store: CheckpointStore, name: str, kind: str
) -> None:
    rest = {key: tensor for key, tensor in weights(1).items() if key != name}
    write_tensors(store.path(NAMES[1]), rest, {})
    message = rf"{NAMES[1]}\.safetensors .*'{name}' is missing, expected {kind}"
    with pytest.raises(DataError, match=message):
        matrix_of(store)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize(
    ("dtype", "name"),
    [(torch.float16, "F16"), (torch.bfloat16, "BF16"), (torch.float64, "F64")],
)
def test_other_floats_than_float32_are_refused(
    store: CheckpointStore, number: int, dtype: torch.dtype, name: str
) -> None:
    replace(store, number, {"in.bias": torch.zeros(4, dtype=dtype)})
    message = rf"{NAMES[number]}\.safetensors: tensor 'in.bias' is {name}; only float32"
    with pytest.raises(DataError, match=message):
        matrix_of(store)


def test_a_checkpoint_without_floats_is_refused(store: CheckpointStore) -> None:
    write_tensors(store.path(NAMES[0]), {"steps": torch.arange(3)}, {})
    message = rf"{NAMES[0]}\.safetensors has no floating-point tensor"
    with pytest.raises(DataError, match=message):
        matrix_of(store)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_values_that_are_not_finite_are_refused(
    store: CheckpointStore, value: float, number: int
) -> None:
    replace(store, number, {"in.bias": torch.tensor([0.0, 1.0, value, 2.0])})
    message = rf"{NAMES[number]}\.safetensors: tensor 'in.bias' has values that are not"
    with pytest.raises(DataError, match=message):
        matrix_of(store)
