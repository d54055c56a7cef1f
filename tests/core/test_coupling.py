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


def classes(size: int, num_classes: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(num_classes, (size,), generator=generator)


def origins(coupled: Tensor, eps: Tensor) -> Tensor:
    """Where each coupled noise stood before."""
    return (coupled.flatten(1)[:, None] == eps.flatten(1)[None]).all(2).int().argmax(1)


def best_cost(x: Tensor, eps: Tensor) -> float:
    M = cdist(x.flatten(1).double(), eps.flatten(1).double(), "sqeuclidean")
    return M[linear_sum_assignment(M)].sum()


def total_cost(x: Tensor, eps: Tensor) -> float:
    return (x.double() - eps.double()).square().sum().item()


def test_costs_are_squared_euclidean_distances() -> None:
    x, eps = batch(9, seed=0)
    a, b = x.flatten(1).double().numpy(), eps.flatten(1).double().numpy()
    M = squared_distances(x, eps)
    assert M.dtype == torch.float64
    np.testing.assert_allclose(M, cdist(a, b, "sqeuclidean"), rtol=1e-10)


@pytest.mark.parametrize("size", [1, 2, 16, 64])
@pytest.mark.parametrize("seed", [0, 1])
def test_total_cost_is_that_of_the_best_assignment(size: int, seed: int) -> None:
    x, eps = batch(size, seed)
    coupled = optimal_transport_coupling(x, eps)
    assert total_cost(x, coupled) == pytest.approx(best_cost(x, eps), rel=1e-9)
    assert total_cost(x, coupled) <= total_cost(x, eps)


def test_coupling_is_free_of_chance() -> None:
    x, eps = batch(16, seed=4)
    for labels in (None, classes(16, 3)):
        np.random.seed(0)
        first = optimal_transport_coupling(x, eps, labels)
        np.random.seed(1)
        torch.manual_seed(1)
        assert torch.equal(first, optimal_transport_coupling(x, eps, labels))


@pytest.mark.parametrize(("size", "num_classes"), [(16, 1), (48, 3), (64, 40)])
def test_within_each_class_the_cost_is_that_of_the_best_assignment(
    size: int, num_classes: int
) -> None:
    x, eps = batch(size, seed=5)
    labels = classes(size, num_classes)
    coupled = optimal_transport_coupling(x, eps, labels)
    for label in labels.unique():
        own = labels == label
        best = best_cost(x[own], eps[own])
        assert total_cost(x[own], coupled[own]) == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("num_classes", [1, 3, 40])
def test_noise_is_reordered_and_never_leaves_its_class(num_classes: int) -> None:
    x, eps = batch(64, seed=6)
    labels = classes(64, num_classes)
    found = origins(optimal_transport_coupling(x, eps, labels), eps)
    assert found.sort().values.tolist() == list(range(64))
    assert torch.equal(labels[found], labels)


def test_classes_of_one_sample_stay_as_they_are() -> None:
    x, eps = batch(12, seed=8)
    labels = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    assert torch.equal(optimal_transport_coupling(x, eps, labels), eps)
    assert torch.equal(optimal_transport_coupling(eps[:1], eps[:1]), eps[:1])


def test_equal_latents_still_get_a_noise_each() -> None:
    x, eps = batch(16, seed=9)
    x, eps = x[:1].expand_as(x), eps.round()  # every assignment of x costs the same
    found = optimal_transport_coupling(x, eps).flatten(1).sort(0).values
    assert torch.equal(found, eps.flatten(1).sort(0).values)
