from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from torch import Tensor

from lct_pipeline.core import coupling
from lct_pipeline.core.coupling import assignment, optimal_transport_coupling


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


@pytest.mark.parametrize(
    ("size", "num_classes"), [(1, 1), (2, 1), (16, 1), (48, 3), (64, 40)]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_within_each_class_the_cost_is_that_of_the_best_assignment(
    size: int, num_classes: int, seed: int
) -> None:
    x, eps = batch(size, seed)
    labels = classes(size, num_classes)
    np.random.seed(seed)
    coupled = optimal_transport_coupling(x, eps, labels)
    for label in labels.unique():
        own = labels == label
        best = best_cost(x[own], eps[own])
        assert total_cost(x[own], coupled[own]) == pytest.approx(best, rel=1e-9)
    found = origins(coupled, eps)
    assert found.sort().values.tolist() == list(range(size))
    assert torch.equal(labels[found], labels)  # noise never leaves its class
    np.random.seed(99)
    assert torch.equal(optimal_transport_coupling(x, eps, labels), coupled)
    if num_classes == 1:
        assert torch.equal(optimal_transport_coupling(x, eps), coupled)


@pytest.fixture
def planted() -> tuple[np.ndarray, np.ndarray]:
    """Return costs u_i + v_j + U_ij, and the permutation at which alone U is 0, all else above."""
    rng, size = np.random.default_rng(0), 1700
    best, U = rng.permutation(size), rng.random((size, size))
    U[np.arange(size), best] = 0
    return U + 5 * rng.random((size, 1)) + 5 * rng.random(size), best


@pytest.mark.filterwarnings("error")
def test_large_batches_are_solved_to_the_end(
    planted: tuple[np.ndarray, np.ndarray],
) -> None:
    M, best = planted
    assert np.array_equal(assignment(M), best)


def test_what_is_not_the_optimum_is_not_taken_for_it(
    planted: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coupling, "MOST_ITERATIONS", 10)
    with (
        pytest.warns(UserWarning, match="numItermax"),
        pytest.raises(
            ArithmeticError, match=r"optimal transport was not found: .*numIt"
        ),
    ):
        assignment(planted[0][:50, :50])
