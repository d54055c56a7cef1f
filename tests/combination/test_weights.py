"""Combinations of checkpoints that stay on disk."""

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
from lct_pipeline.errors import ParameterError

K = 4
MIB = 2**20
BLOCKS_MIB = 2 * BLOCK_BYTES // MIB  # memory that the blocks take
COUNT = "1.num_batches_tracked"


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))


def state(number: int) -> dict[str, Tensor]:
    net = network(number)
    net(torch.randn(5, 3))
    return {**net.state_dict(), COUNT: torch.tensor(10 + number)}


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


def test_a_combination_is_the_sum_over_the_state_dicts_and_can_be_loaded(
    weights: CombinedWeights,
) -> None:
    (alpha,) = alphas(1)
    found = weights.state_dict(alpha)
    network().load_state_dict(found)
    assert found.pop(COUNT) == 10 + K - 1  # integers are those of the last checkpoint
    for name, tensor in found.items():
        slow = sum(a * state(n)[name].double() for n, a in enumerate(alpha))
        torch.testing.assert_close(tensor, slow.float(), rtol=1e-5, atol=1e-6)


def test_several_combinations_are_made_at_once_where_they_are_wanted(
    weights: CombinedWeights,
) -> None:
    room = np.zeros((3, weights.num_weights), np.float32)
    assert weights.combine(alphas(3), out=room) is room
    for alpha, row in zip(alphas(3), room, strict=True):
        np.testing.assert_allclose(row, weights.combine(alpha[None])[0], atol=1e-6)


def test_checkpoints_that_no_combination_uses_are_not_read(
    weights: CombinedWeights, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    plain = WeightMatrix.read

    def watched(self: WeightMatrix, columns: slice, out: np.ndarray) -> None:
        read.append(self.shape[0])
        plain(self, columns, out)

    monkeypatch.setattr(WeightMatrix, "read", watched)
    found = weights.combine(np.array([[0.5, 0, 0.5, 0], [0, 0, 1, 0]]))
    assert read == [2]
    assert np.array_equal(found[1], weights.layout.flatten(state(2)))


@pytest.mark.parametrize("more", [1, 2, 7])
def test_as_many_combinations_are_made_together_as_fit_beside_the_blocks(
    store: CheckpointStore, more: int
) -> None:
    weights = CombinedWeights(rows_of(store), store, BLOCKS_MIB + more)
    assert weights.block_size * 4 * K == BLOCK_BYTES
    used = 4 * weights.num_weights * weights.group_size
    assert used <= more * MIB < used + 4 * weights.num_weights


def test_what_is_needed_at_least_is_said_where_nothing_fits(
    store: CheckpointStore,
) -> None:
    message = rf"memory_mib={BLOCKS_MIB} does not .* give {BLOCKS_MIB + 1} or more"
    with pytest.raises(ParameterError, match=message):
        CombinedWeights(rows_of(store), store, BLOCKS_MIB)


@pytest.mark.parametrize("num", [1, 3, K])
def test_the_derivative_by_alpha_is_that_of_autograd(
    weights: CombinedWeights, num: int
) -> None:
    alpha = torch.from_numpy(alphas(1)[0]).requires_grad_()
    names = list(weights.layout.shapes)
    mixed = [
        sum(a * state(n)[name].double() for n, a in enumerate(alpha)) for name in names
    ]
    loss = torch.stack([theta.sin().sum() for theta in mixed]).sum()
    (by_alpha,) = torch.autograd.grad(loss, alpha)
    combined = weights.state_dict(alpha.detach().numpy())
    found = weights.gradient_by_alpha({n: t.cos() for n, t in combined.items()}, num)
    np.testing.assert_allclose(found, by_alpha[:num], rtol=1e-5, atol=1e-5)
