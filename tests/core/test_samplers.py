from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lct_pipeline.core.coupling import optimal_transport_coupling
from lct_pipeline.core.levels import karras_sigmas
from lct_pipeline.core.samplers import (
    Renoise,
    guided,
    sample_dpm_solver,
    sample_heun,
    sample_multistep,
)

MIN, MAX = 0.002, 80.0


MU, S = 1.5, 0.5


GRID: dict[str, Any] = {"sigma_min": MIN, "sigma_max": MAX, "rho": 7.0}


def column(t: Tensor) -> Tensor:
    return t.reshape(-1, 1, 1, 1)


def consistency_function(x_t: Tensor, t: Tensor) -> Tensor:
    """The exact consistency function of data N(MU, S^2)."""
    factor = torch.sqrt((S**2 + MIN**2) / (S**2 + t**2))
    return MU + (x_t.double() - MU) * column(factor)


def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
    """The exact denoiser of data N(MU, S^2)."""
    total = column(S**2 + t**2)
    return ((S**2 * x_t + column(t**2) * MU) / total).to(x_t.dtype)


def class_model(x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
    """The exact denoiser of classes N(label, S^2)."""
    mean = labels.double().reshape(-1, 1, 1, 1) - MU
    return denoiser(x_t - mean, t) + mean


def noise(num: int, size: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (size, 1, 2, 2)
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(num)
    ]


def levels(num_levels: int) -> list[float]:
    """Return the grid for sampling, decreasing from MAX to MIN."""
    return karras_sigmas(num_levels - 1, **GRID).flip(0).tolist()


class Recording:
    """A model that remembers what it was called with."""

    def __init__(self, model: Callable[..., Tensor]) -> None:
        self.model = model
        self.calls: list[tuple[Tensor, ...]] = []

    def __call__(self, *args: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        self.calls.append(args)
        return self.model(*args)

    def levels(self) -> list[float]:
        return [t[0].item() for _, t, *_ in self.calls]


@pytest.mark.parametrize(
    ("renoise", "second", "third"), [("fresh", 1, 2), ("same", 0, 0)]
)
def test_three_steps_are_algorithm_1_written_out(
    renoise: Renoise, second: int, third: int
) -> None:
    e = noise(3, 4)
    sigmas = [MAX, 2.5, 0.529]
    x = sample_multistep(
        consistency_function, e, sigmas, sigma_min=MIN, renoise=renoise
    )

    def f(x_t: Tensor, sigma: float) -> Tensor:
        return consistency_function(x_t, torch.full((4,), sigma, dtype=torch.float64))

    slow = f(80 * e[0], 80)
    slow = f(slow + math.sqrt(2.5**2 - MIN**2) * e[second], 2.5)
    slow = f(slow + math.sqrt(0.529**2 - MIN**2) * e[third], 0.529)
    torch.testing.assert_close(x, slow)
    with pytest.raises(ValueError, match="zip"):  # noise for every level is required
        sample_multistep(consistency_function, e[:2], sigmas, sigma_min=MIN)


@pytest.mark.parametrize("labels", [None, torch.tensor([3, 1, 1, 3, 2, 1, 3, 1])])
def test_coupled_noise_is_fresh_noise_in_the_order_of_the_trainings_coupling(
    labels: Tensor | None,
) -> None:
    eps, fresh = noise(2, 8)
    model = Recording(lambda x_t, t, *labels: consistency_function(x_t, t))
    sample_multistep(
        model, [eps, fresh], [MAX, 0.5], sigma_min=0.3, renoise="coupled", labels=labels
    )
    first = consistency_function(*model.calls[0][:2])
    added = (model.calls[1][0] - first) / 0.4  # sqrt(0.5^2 - 0.3^2)
    torch.testing.assert_close(added, optimal_transport_coupling(first, fresh, labels))
    assert not torch.allclose(added, fresh)


def multistep(model: Callable[..., Tensor], eps: Tensor, **labels: Any) -> Tensor:
    return sample_multistep(model, [eps, -eps], [MAX, 0.5], sigma_min=MIN, **labels)


def heun(model: Callable[..., Tensor], eps: Tensor, **labels: Any) -> Tensor:
    return sample_heun(model, eps, levels(20), **labels)


def dpm_solver(model: Callable[..., Tensor], eps: Tensor, **labels: Any) -> Tensor:
    return sample_dpm_solver(model, eps, 40, **GRID, **labels)


SAMPLERS = pytest.mark.parametrize("sample", [multistep, heun, dpm_solver])


@SAMPLERS
def test_labels_reach_the_model_if_there_are_any(
    sample: Callable[..., Tensor],
) -> None:
    (eps,) = noise(1, 4)
    labels = torch.tensor([0, 2, 2, 7])
    conditional, unconditional = Recording(class_model), Recording(denoiser)
    sample(conditional, eps, labels=labels)
    sample(unconditional, eps)
    assert all(torch.equal(call[2], labels) for call in conditional.calls)
    assert all(len(call) == 2 for call in unconditional.calls)


def test_guidance_moves_from_no_class_through_the_class_and_beyond() -> None:
    (x_t,) = noise(1, 3)
    t = torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)
    labels = torch.tensor([2, 5, 1])
    D_label = class_model(x_t, t, labels)
    D_null = class_model(x_t, t, torch.full_like(labels, 9))
    assert guided(class_model, 1.0, null_class=9) is class_model
    expected = {0.0: D_null, 0.5: (D_null + D_label) / 2, 3.0: 3 * D_label - 2 * D_null}
    for weight, D_x in expected.items():
        found = guided(class_model, weight, null_class=9)(x_t, t, labels)
        torch.testing.assert_close(found, D_x)


def test_heun_is_edms_algorithm_1_written_out() -> None:
    eps = noise(1, 5)[0].float()
    sigmas = levels(6)

    def slope(x: Tensor, sigma: float) -> Tensor:
        return (x - (S**2 * x + sigma**2 * MU) / (S**2 + sigma**2)) / sigma

    x = sigmas[0] * eps.double()
    for i in range(5):
        h = sigmas[i + 1] - sigmas[i]
        d = slope(x, sigmas[i])
        x = x + h * (d / 2 + slope(x + h * d, sigmas[i + 1]) / 2)
    x = x - sigmas[5] * slope(x, sigmas[5])
    found = sample_heun(denoiser, eps, sigmas)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("num", [5, 14, 17])
def test_dpm_solver_is_algorithm_2_written_out(num: int) -> None:
    eps = noise(1, 5)[0].float()
    sigmas = levels(num)

    def denoised(x: Tensor, sigma: float) -> Tensor:
        return (S**2 * x + sigma**2 * MU) / (S**2 + sigma**2)

    x = sigmas[0] * eps.double()
    before = denoised(x, sigmas[0])
    for i in range(num - 1):
        D_x = denoised(x, sigmas[i])
        h = math.log(sigmas[i] / sigmas[i + 1])
        if i > 0:
            r = math.log(sigmas[i - 1] / sigmas[i]) / h
            D_bar = (1 + 1 / (2 * r)) * D_x - before / (2 * r)
        else:
            D_bar = D_x
        x = sigmas[i + 1] / sigmas[i] * x - math.expm1(-h) * D_bar
        before = D_x
    x = denoised(x, sigmas[-1])
    found = sample_dpm_solver(denoiser, eps, num, **GRID)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("num_levels", [1, 2, 5, 9])
def test_heun_evaluates_twice_at_each_level_but_the_first_and_dpm_solver_once(
    num_levels: int,
) -> None:
    (eps,), sigmas = noise(1, 2), levels(num_levels)
    twice, once = Recording(denoiser), Recording(denoiser)
    sample_heun(twice, eps, sigmas)
    assert twice.levels() == [sigmas[0], *(s for s in sigmas[1:] for _ in range(2))]
    sample_dpm_solver(once, eps, num_levels, **GRID)
    assert once.levels() == pytest.approx(sigmas, rel=1e-5)
