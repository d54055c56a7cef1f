from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from torch import Tensor

from lct_pipeline.core.coupling import (
    optimal_transport_coupling,
    squared_distances,
)


def batch(size: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = 0.5 * torch.randn(size, 2, 3, 3, generator=generator)
    return x, torch.randn(size, 2, 3, 3, generator=generator)


def total_cost(x: Tensor, eps: Tensor) -> float:
    return (x.double() - eps.double()).square().sum().item()


def test_costs_are_squared_euclidean_distances() -> None:
    x, eps = batch(9, seed=0)
    a, b = x.flatten(1).double().numpy(), eps.flatten(1).double().numpy()
    M = squared_distances(x, eps)
    assert M.dtype == torch.float64
    np.testing.assert_allclose(M, cdist(a, b, "sqeuclidean"), rtol=1e-10)


def test_no_cost_is_negative_where_latents_and_noise_coincide() -> None:
    x = 1e3 + torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    assert (squared_distances(x, x) >= 0).all()


@pytest.mark.parametrize("size", [1, 2, 16, 64])
@pytest.mark.parametrize("seed", [0, 1])
def test_total_cost_is_that_of_the_best_assignment(size: int, seed: int) -> None:
    x, eps = batch(size, seed)
    coupled = optimal_transport_coupling(x, eps)
    M = cdist(x.flatten(1).double(), eps.flatten(1).double(), "sqeuclidean")
    best = M[linear_sum_assignment(M)].sum()
    assert total_cost(x, coupled) == pytest.approx(best, rel=1e-9)
    assert total_cost(x, coupled) <= total_cost(x, eps)


def test_coupling_only_reorders_the_noise() -> None:
    x, eps = batch(32, seed=2)
    coupled = optimal_transport_coupling(x, eps)
    assert coupled.shape == eps.shape
    order = eps.flatten(1)[:, 0].argsort()
    again = coupled.flatten(1)[:, 0].argsort()
    assert torch.equal(coupled[again], eps[order])


def test_shuffled_neighbours_find_their_latents_again() -> None:
    x, _ = batch(20, seed=3)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    coupled = optimal_transport_coupling(x, x[order] + 1e-3)
    torch.testing.assert_close(coupled, x + 1e-3)


def test_coupling_is_free_of_chance() -> None:
    x, eps = batch(16, seed=4)
    np.random.seed(0)
    first = optimal_transport_coupling(x, eps)
    np.random.seed(1)
    torch.manual_seed(1)
    assert torch.equal(first, optimal_transport_coupling(x, eps))
