"""What is searched through: the window, averages of it, and combinations that stay on disk."""

from __future__ import annotations

import tracemalloc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from configuration import recipe
from small_runs import Run
from torch import Tensor, nn

from lct_pipeline.combination.weights import (
    BLOCK_BYTES,
    CombinedWeights,
    FlatFile,
    candidate_emas,
    check_window,
    initial_alphas,
    members_of,
    posthoc_alpha,
)
from lct_pipeline.core.ema import EMABank, Track, gamma_of
from lct_pipeline.core.flat_weights import FlatWeights
from lct_pipeline.core.linear_combination import WeightMatrix
from lct_pipeline.datasets.checkpoints import CheckpointsDataset, CheckpointStore
from lct_pipeline.datasets.tensors import TensorFile, write_tensors
from lct_pipeline.errors import DataError, ParameterError

STEPS = np.array([10, 20, 30, 40])
AVERAGES = ["step-0000020-power-0.1", "step-0000040-ema-0.9", "step-0000040-power-0.1"]


@pytest.mark.parametrize(("window", "first"), [(1.0, 0), (0.75, 1), (0.5, 2)])
def test_the_window_is_the_last_share_of_the_steps(
    pixels: Run, window: float, first: int
) -> None:
    members = members_of(pixels.catalog.rows, window)
    assert members.window["step"].tolist() == STEPS[first:].tolist()
    assert set(members.window["kind"]) == {"raw"}
    assert members.rows["name"].tolist()[members.window_size :] == AVERAGES


def test_a_window_of_one_checkpoint_is_refused_with_what_helps(pixels: Run) -> None:
    with pytest.raises(DataError, match=r"at least 2.*has 1.*combination\.window"):
        check_window(members_of(pixels.catalog.rows, 0.25))


def test_coefficients_of_the_window_are_none_of_the_averages(pixels: Run) -> None:
    members = members_of(pixels.catalog.rows, 0.5)
    alphas = np.array([[0.25, 0.75], [-1.0, 2.0]])
    padded = members.padded(alphas)
    np.testing.assert_array_equal(padded, np.pad(alphas, ((0, 0), (0, 3))))
    np.testing.assert_array_equal(members.padded(alphas[0]), padded[0])


# averages


def test_searches_start_from_averages_of_the_checkpoints() -> None:
    initial = initial_alphas([20, 30, 40], (0.9, 0.95), (0.1,))
    steps, gamma = STEPS[1:], gamma_of(0.1)
    # a checkpoint stands for the steps since the one before it, the first for all older ones
    expected: dict[str, Any] = {
        "EMA 0.9": np.diff(0.9 ** (40 - steps), prepend=0),
        "EMA 0.95": np.diff(0.95 ** (40 - steps), prepend=0),
        "power 0.1": np.diff((steps / 40) ** (gamma + 1), prepend=0),
        "uniform": np.full(3, 1 / 3),
        "last": [0, 0, 1],
    }
    assert list(initial) == list(expected)
    for name, alpha in expected.items():
        np.testing.assert_allclose(initial[name], alpha, atol=1e-12, err_msg=name)


def test_the_base_recipe_has_at_least_ten_averages_of_different_profiles() -> None:
    search, steps = recipe("base").combination.search, [2500, 3000, 4000, 5000]
    rates, widths = search.initial_ema_rates, search.initial_sigma_rels
    found = initial_alphas(steps, rates, widths).values()
    assert len({tuple(a.round(6)) for a in found}) >= 11  # and the last checkpoint


def test_the_best_ema_is_among_stored_ones_made_ones_and_those_of_the_window(
    pixels: Run, tiny: Run
) -> None:
    def found(run: Run, window: float, widths: tuple[float, ...]) -> dict[str, Any]:
        stage = run.stage({"window": window})
        emas = candidate_emas(stage.members, stage.initial, widths)
        assert all(ema.alpha.sum() == pytest.approx(1) for ema in emas)
        return {ema.name: (ema.kind, ema.alpha.tolist()) for ema in emas}

    emas = found(pixels, 0.5, (0.1, 0.2))  # two of the window, then three averages
    kinds = ["ema", "power", "posthoc", "posthoc", "window", "window"]
    assert [kind for kind, _ in emas.values()] == kinds
    assert emas["step-0000040-ema-0.9"][1] == [0, 0, 0, 1, 0]
    assert emas["step-0000040-power-0.1"][1] == [0, 0, 0, 0, 1]
    # a width that was kept gives the average that was kept
    np.testing.assert_allclose(emas["post-hoc-0.1"][1], [0, 0, 0, 0, 1], atol=1e-9)
    other = np.array(emas["post-hoc-0.2"][1])
    assert set(np.flatnonzero(other)) == {2, 4}
    assert emas["uniform"][1] == [0.5, 0.5, 0, 0, 0]
    assert list(found(pixels, 0.25, ())) == AVERAGES[1:]  # one in the window
    assert list(found(tiny, 1.0, (0.1, 0.2))) == ["EMA 0.9", "uniform"]  # none stored


def test_an_average_made_afterwards_is_the_one_that_training_would_have_kept(
    tmp_path: Path,
) -> None:
    dataset = CheckpointsDataset(path=str(tmp_path / "checkpoints"))
    generator = torch.Generator().manual_seed(0)
    net, widths, kept = nn.Linear(256, 1, bias=False), (0.05, 0.1), Track("power", 0.15)
    bank, rows = EMABank(FlatWeights(net), (), (*widths, kept.value)), []
    for step in range(1, 401):
        net.weight.data += torch.randn(1, 256, generator=generator)
        bank.update(step)
        for width in widths if step % 25 == 0 else ():
            name = f"step-{step}-power-{width}"
            averaged = dict(bank.state_dict(Track("power", width), net))
            dataset.save({name: TensorFile(averaged)})
            rows.append({"name": name, "step": step, "ema_width": width})
    store, index = dataset.load(), pd.DataFrame(rows)
    index["digest"] = [store.digest(name) for name in index["name"]]
    alpha = posthoc_alpha(index, kept.value)
    found = CombinedWeights(index, store).state_dict(alpha)["weight"]
    expected = bank.tracks[kept]["weight"]
    assert (found - expected).norm() < 1e-3 * expected.norm()
    stored = [store.read(name).tensors["weight"] for name in index["name"]]
    nearest = min((tensor - expected).norm() for tensor in stored)
    assert nearest > 1e-2 * expected.norm()  # no stored one comes near to it


# combinations

NAMES = ["step-000005-raw", "step-000010-raw", "step-000015-raw"]
K = len(NAMES)
MIB = 2**20
BLOCKS_MIB = 2 * BLOCK_BYTES // MIB  # memory that the blocks take


def weights(seed: int) -> dict[str, Tensor]:
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
    dataset.save({name: TensorFile(weights(n)) for n, name in enumerate(NAMES)})
    return dataset.load()


def rows_of(store: CheckpointStore, names: list[str] = NAMES) -> pd.DataFrame:
    return pd.DataFrame({"name": names, "digest": [store.digest(n) for n in names]})


def combined(store: CheckpointStore, names: list[str] = NAMES) -> CombinedWeights:
    return CombinedWeights(rows_of(store, names), store)


def replace(store: CheckpointStore, number: int, changes: dict[str, Any]) -> None:
    """Write a checkpoint again with other tensors, as another training would."""
    tensors = {k: v for k, v in {**weights(number), **changes}.items() if v is not None}
    write_tensors(store.path(NAMES[number]), tensors, {"step": 0})


def alphas(num: int) -> np.ndarray:
    alpha = np.random.default_rng(0).normal(size=(num, K))
    return alpha + (1 - alpha.sum(1, keepdims=True)) / K


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
    found = combined(store)
    matrix, layout = found.matrix, found.layout
    floating = [n for n, t in weights(0).items() if t.is_floating_point()]
    assert list(layout.shapes) == sorted(floating) and matrix.shape == (3, 21)
    stack = np.stack([layout.flatten(weights(seed)) for seed in range(3)])
    np.testing.assert_array_equal(values(matrix, columns), stack[:, columns])
    some = values(matrix.rows([2, 0]), columns)
    np.testing.assert_array_equal(some, stack[[2, 0], columns])
    backwards = combined(store, NAMES[::-1]).matrix
    np.testing.assert_array_equal(values(backwards, columns), stack[::-1, columns])


def test_integers_of_the_last_and_what_is_the_same_in_all_are_constants(
    store: CheckpointStore,
) -> None:
    constants = combined(store).layout.constants
    assert constants.keys() == {"in.count", "in.mask", "in.frozen"}
    assert torch.equal(constants["in.frozen"], torch.full((3,), 0.1))
    assert constants["in.count"] == 102
    assert combined(store, NAMES[::-1]).layout.constants["in.count"] == 100
    assert combined(store, NAMES[:1]).layout.constants.keys() == weights(0).keys()
    replace(store, 1, {"in.frozen": torch.full((3,), 0.2)})  # neither first nor last
    assert "in.frozen" not in combined(store).layout.constants


def test_a_combination_is_the_sum_over_the_state_dicts(store: CheckpointStore) -> None:
    found = combined(store)
    for alpha, row in zip(alphas(3), found.combine(alphas(3)), strict=True):
        tensors = found.state_dict(alpha)
        assert tensors.pop("in.count") == 102
        assert torch.equal(tensors.pop("in.mask"), weights(0)["in.mask"])
        for name, tensor in tensors.items():
            slow = sum(a * weights(n)[name].double() for n, a in enumerate(alpha))
            torch.testing.assert_close(tensor, slow.float(), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(row, found.layout.flatten(tensors), atol=1e-6)


def test_checkpoints_that_no_combination_uses_are_not_read(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    plain = WeightMatrix.read

    def watched(self: WeightMatrix, columns: slice, out: np.ndarray) -> None:
        read.append(self.shape[0])
        plain(self, columns, out)

    monkeypatch.setattr(WeightMatrix, "read", watched)
    found, room = combined(store), np.zeros((2, 21), np.float32)
    assert found.combine(np.array([[0.5, 0, 0.5], [0, 0, 1]]), out=room) is room
    assert read == [2]
    assert np.array_equal(room[1], found.layout.flatten(weights(2)))


@pytest.mark.parametrize("num", [1, K])
def test_the_derivative_by_alpha_is_that_of_autograd(
    store: CheckpointStore, num: int
) -> None:
    found = combined(store)
    alpha = torch.from_numpy(alphas(1)[0]).requires_grad_()
    mixed = [
        sum(a * weights(n)[name].double() for n, a in enumerate(alpha))
        for name in found.layout.shapes
    ]
    loss = torch.stack([theta.sin().sum() for theta in mixed]).sum()
    (by_alpha,) = torch.autograd.grad(loss, alpha)
    by_weight = {
        n: t.cos() for n, t in found.state_dict(alpha.detach().numpy()).items()
    }
    gradient = found.gradient_by_alpha(by_weight, num)
    np.testing.assert_allclose(gradient, by_alpha[:num], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("more", [1, 2, 7])
def test_as_many_combinations_are_made_together_as_fit_beside_the_blocks(
    store: CheckpointStore, more: int
) -> None:
    found = CombinedWeights(rows_of(store), store, BLOCKS_MIB + more)
    assert found.block_size * 4 * K <= BLOCK_BYTES
    used = 4 * found.num_weights * found.group_size
    assert used <= more * MIB < used + 4 * found.num_weights


def test_what_is_needed_at_least_is_said_where_nothing_fits(
    store: CheckpointStore,
) -> None:
    message = rf"memory_mib={BLOCKS_MIB} does not .* give {BLOCKS_MIB + 1} or more"
    with pytest.raises(ParameterError, match=message):
        CombinedWeights(rows_of(store), store, BLOCKS_MIB)


# checkpoints stay on disk, and are verified


def test_memory_does_not_hold_the_checkpoints(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    num, names = 1_000_000, [f"step-{n}" for n in range(4)]
    for number, name in enumerate(names):
        write_tensors(store.path(name), {"w": torch.full((num,), float(number))}, {})
    rows = rows_of(store, names)
    tracemalloc.start()
    try:
        matrix = CombinedWeights(rows, store).matrix
        block = values(matrix, slice(500_000, 500_010))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert block[:, 0].tolist() == [0, 1, 2, 3]
    assert peak < num  # bytes: a quarter of one checkpoint
    assert all(isinstance(row, FlatFile) for row in matrix.vectors)  # nor their pages


def test_no_more_than_three_checkpoints_are_held_however_many_there_are(
    tmp_path: Path,
) -> None:
    read: list[list[weakref.ref[Tensor]]] = []
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
    matrix = combined(store, names).matrix
    assert len(held) == 6
    assert max(held) <= 3  # the first, and the last two
    assert num_alive() == 0
    assert matrix.shape == (6, 21)


def test_another_digest_an_altered_and_a_missing_file_are_refused(
    store: CheckpointStore,
) -> None:
    rows, path = rows_of(store), store.path(NAMES[2])
    other = rows.assign(digest=rows["digest"].iloc[[0, 0, 2]].to_list())
    with pytest.raises(DataError, match=rf"{NAMES[1]}.* is not the checkpoint that"):
        CombinedWeights(other, store)
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"{NAMES[2]}\.safetensors was altered"):
        CombinedWeights(rows, store)
    path.unlink()
    with pytest.raises(DataError, match=rf"{NAMES[2]}\.safetensors is missing"):
        CombinedWeights(rows, store)


NO_FLOATS = {n: None for n, t in weights(0).items() if t.is_floating_point()}


@pytest.mark.parametrize(
    ("number", "changes", "message"),
    [
        (2, {"in.bias": torch.zeros(5)}, r"'in.bias' is float32 \(5,\), expected float"),
        (2, {"in.bias": torch.arange(4)}, r"'in.bias' is int64 \(4,\), expected float32"),
        (2, {"in.mask": torch.arange(3)}, r"'in.mask' is int64 \(3,\), expected bool \(3"),
        (2, {"extra": torch.zeros(2)}, r"'extra' is float32 \(2,\), expected none"),
        (2, {"out.weight": None}, r"another network .* missing, expected float32 \(2, 3\)"),
        (2, {"in.count": None}, r"missing, expected int64 \(\)"),
        (0, {"in.bias": torch.zeros(4).half()}, "'in.bias' is torch.float16; only float32"),
        (1, {"in.bias": torch.zeros(4).bfloat16()}, "'in.bias' is torch.bfloat16; only"),
        (1, {"in.bias": torch.zeros(4).double()}, "'in.bias' is torch.float64; only"),
        (0, NO_FLOATS, "has no floating-point tensor"),
        (0, {"in.bias": torch.tensor([0, 1, torch.nan, 2])}, "'in.bias' has values that"),
        (2, {"in.bias": torch.tensor([0, 1, -torch.inf, 2])}, "that are not finite"),
    ],
    ids=range(12),
)  # fmt: skip
def test_what_cannot_be_combined_is_named_with_its_file(
    store: CheckpointStore, number: int, changes: dict[str, Any], message: str
) -> None:
    replace(store, number, changes)
    with pytest.raises(DataError, match=rf"{NAMES[number]}\.safetensors.*{message}"):
        combined(store)
