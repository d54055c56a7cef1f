from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from lct_pipeline.combination.weights import BLOCK_BYTES, CombinedWeights
from lct_pipeline.core.linear_combination import WeightMatrix
from lct_pipeline.datasets.checkpoints import CheckpointsDataset, CheckpointStore
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import DataError, ParameterError

K = 4
MIB = 2**20
BLOCKS_MIB = 2 * BLOCK_BYTES // MIB  # memory that the blocks take


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))


def state(number: int) -> dict[str, Tensor]:
    net = network(number)
    net(torch.randn(5, 3))
    tensors = net.state_dict()
    return {**tensors, "1.num_batches_tracked": torch.tensor(10 + number)}


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    dataset = CheckpointsDataset(path=str(tmp_path))
    dataset.save({f"step-{n}": TensorFile(state(n)) for n in range(K)})
    return dataset.load()


def rows_of(store: CheckpointStore) -> pd.DataFrame:
    names = store.names()
    return pd.DataFrame({"name": names, "digest": map(store.digest, names)})


@pytest.fixture
def weights(store: CheckpointStore) -> CombinedWeights:
    return CombinedWeights(rows_of(store), store)


def alphas(num: int) -> np.ndarray:
    alpha = np.random.default_rng(0).normal(size=(num, K))
    return alpha + (1 - alpha.sum(1, keepdims=True)) / K


def test_a_combination_is_the_sum_over_the_state_dicts(
    weights: CombinedWeights,
) -> None:
    (alpha,) = alphas(1)
    found = weights.state_dict(alpha)
    assert found.keys() == state(0).keys()
    for name, tensor in found.items():
        if tensor.is_floating_point():
            slow = sum(a * state(n)[name].double() for n, a in enumerate(alpha))
            torch.testing.assert_close(tensor, slow.float(), rtol=1e-5, atol=1e-6)


def test_several_combinations_are_made_at_once(weights: CombinedWeights) -> None:
    found = weights.combine(alphas(3))
    assert found.shape == (3, weights.num_weights)
    for alpha, row in zip(alphas(3), found, strict=True):
        np.testing.assert_allclose(row, weights.combine(alpha[None])[0], atol=1e-6)


def test_a_one_hot_combination_is_the_checkpoint_itself(
    weights: CombinedWeights,
) -> None:
    found = weights.state_dict(np.eye(K)[1])
    floating = [name for name, tensor in found.items() if tensor.is_floating_point()]
    assert all(torch.equal(found[name], state(1)[name]) for name in floating)


def test_integer_buffers_are_those_of_the_last_checkpoint(
    weights: CombinedWeights,
) -> None:
    assert weights.state_dict(np.eye(K)[0])["1.num_batches_tracked"] == 10 + K - 1


def test_a_combination_can_be_loaded(weights: CombinedWeights) -> None:
    network().load_state_dict(weights.state_dict(alphas(1)[0]))


def test_the_result_is_put_where_it_is_wanted(weights: CombinedWeights) -> None:
    room = np.zeros((2, weights.num_weights), np.float32)
    assert weights.combine(alphas(2), out=room) is room
    assert np.array_equal(room, weights.combine(alphas(2)))


def test_checkpoints_that_no_combination_uses_are_not_read(
    weights: CombinedWeights, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    plain = WeightMatrix.read

    def watched(self: WeightMatrix, columns: slice, out: np.ndarray) -> None:
        read.append(self.shape[0])
        plain(self, columns, out)

    monkeypatch.setattr(WeightMatrix, "read", watched)
    alpha = np.array([[0.5, 0, 0.5, 0], [0, 0, 1, 0]])
    found = weights.combine(alpha)
    assert read == [2]
    assert np.array_equal(found[1], weights.layout.flatten(state(2)))


def test_one_combination_at_a_time_is_made_where_no_memory_is_given(
    weights: CombinedWeights,
) -> None:
    assert weights.group_size == 1


@pytest.mark.parametrize("more", [1, 2, 7])
def test_as_many_combinations_are_made_together_as_fit_beside_the_blocks(
    store: CheckpointStore, more: int
) -> None:
    weights = CombinedWeights(rows_of(store), store, BLOCKS_MIB + more)
    used = 4 * weights.num_weights * weights.group_size
    assert used <= more * MIB < used + 4 * weights.num_weights


def test_blocks_are_of_so_many_bytes_for_all_checkpoints_together(
    weights: CombinedWeights,
) -> None:
    assert weights.block_size * 4 * K == BLOCK_BYTES


def test_what_is_needed_at_least_is_said_where_nothing_fits(
    store: CheckpointStore,
) -> None:
    message = rf"memory_mib={BLOCKS_MIB} does not .* give {BLOCKS_MIB + 1} or more"
    with pytest.raises(ParameterError, match=message):
        CombinedWeights(rows_of(store), store, BLOCKS_MIB)
    assert CombinedWeights(rows_of(store), store, BLOCKS_MIB + 1).group_size >= 1


def test_a_checkpoint_that_was_replaced_is_refused(store: CheckpointStore) -> None:
    rows = rows_of(store).assign(digest="another")
    with pytest.raises(DataError, match="not the checkpoint that was cataloged"):
        CombinedWeights(rows, store)


@pytest.mark.parametrize("num", [1, 3, K])
def test_the_derivative_by_alpha_is_that_of_autograd(
    weights: CombinedWeights, num: int
) -> None:
    alpha = torch.from_numpy(alphas(1)[0]).requires_grad_()
    layout = weights.layout

    def loss(theta: dict[str, Tensor]) -> Tensor:
        return torch.stack([theta[name].sin().sum() for name in layout.shapes]).sum()

    mixed = {
        name: sum(a * state(n)[name].double() for n, a in enumerate(alpha))
        for name in layout.shapes
    }
    (by_alpha,) = torch.autograd.grad(loss(mixed), alpha)
    by_weight = {
        name: tensor.cos()
        for name, tensor in weights.state_dict(alpha.detach().numpy()).items()
    }
    found = weights.gradient_by_alpha(by_weight, num)
    np.testing.assert_allclose(found, by_alpha[:num], rtol=1e-5, atol=1e-5)
