from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lct_pipeline.core.coupling import optimal_transport_coupling
from lct_pipeline.core.preconditioning import Denoiser
from lct_pipeline.core.samplers import (
    Renoise,
    guided,
    sample_dpm_solver,
    sample_heun,
    sample_multistep,
)
from lct_pipeline.core.schedules import karras_sigmas

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


def solution(eps: Tensor) -> Tensor:
    """Where the probability-flow ODE of data N(MU, S^2) takes MAX * eps."""
    return MU + (MAX * eps - MU) * S / math.hypot(S, MAX)


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


def distance(x: Tensor, y: Tensor) -> float:
    return (x - y).square().mean().sqrt().item()


class Recording:
    """A model that remembers what it was called with."""

    def __init__(self, model: Callable[..., Tensor]) -> None:
        self.model = model
        self.calls: list[tuple[Tensor, ...]] = []

    def __call__(self, *args: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        self.calls.append(args)
        return self.model(*args)

    def levels(self) -> list[list[float]]:
        return [t.tolist() for _, t, *_ in self.calls]


# Multistep sampling from a consistency model


def test_one_step_is_the_model_at_the_largest_level() -> None:
    (eps,) = noise(1, 4)
    x = sample_multistep(consistency_function, [eps], [MAX], sigma_min=MIN)
    scale = math.sqrt((S**2 + MIN**2) / (S**2 + MAX**2))
    torch.testing.assert_close(x, MU + (MAX * eps - MU) * scale)


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


@pytest.mark.parametrize("sigmas", [[MAX], [MAX, 0.529], [MAX, 3.0, 0.2]])
def test_samples_of_the_exact_model_have_the_datas_distribution(
    sigmas: list[float],
) -> None:
    size = 5000
    eps = noise(len(sigmas), size)
    x = sample_multistep(consistency_function, eps, sigmas, sigma_min=MIN)
    num_values = 4 * size
    assert abs(x.mean().item() - MU) < 5 * S / num_values**0.5 + MU * S / MAX
    assert x.std().item() == pytest.approx(math.hypot(S, MIN), rel=0.02)


def test_where_pairs_are_coupled_only_their_own_noise_keeps_the_spread() -> None:
    """Coupled without error, x = MU + S eps, so that x_t - MU = (S + t) eps."""

    def model(x_t: Tensor, t: Tensor) -> Tensor:
        return MU + (x_t - MU) * column((S + MIN) / (S + t))

    def spread(renoise: Renoise) -> float:
        eps = noise(2, 300)
        arguments: dict[str, Any] = {"sigma_min": MIN, "renoise": renoise}
        return sample_multistep(model, eps, [MAX, S], **arguments).std().item()

    assert spread("same") == pytest.approx(S, rel=0.05)
    assert spread("fresh") == pytest.approx(S / math.sqrt(2), rel=0.05)
    assert spread("fresh") < spread("coupled") < 1.02 * spread("same")


def test_samples_of_one_point_fall_on_it_within_the_smallest_level() -> None:
    def point(x_t: Tensor, t: Tensor) -> Tensor:
        return MU + (x_t - MU) * column(MIN / t)

    x = sample_multistep(point, noise(2, 50), [MAX, 0.5], sigma_min=MIN)
    assert ((x - MU).abs() < 6 * MIN).all()


def test_the_model_sees_one_level_per_sample_once_per_evaluation() -> None:
    model = Recording(consistency_function)
    sample_multistep(model, noise(2, 3), [MAX, 0.5], sigma_min=MIN)
    assert model.levels() == [[MAX] * 3, [0.5] * 3]


def test_noise_for_every_level_is_required() -> None:
    with pytest.raises(ValueError, match="zip"):
        sample_multistep(consistency_function, noise(1, 2), [MAX, 0.5], sigma_min=MIN)


# Classes


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


@SAMPLERS
def test_each_sample_is_of_its_class(sample: Callable[..., Tensor]) -> None:
    labels = torch.arange(0, 800, 10)
    (eps,) = noise(1, len(labels))
    x = sample(class_model, eps, labels=labels)
    means = x.mean((1, 2, 3))
    # each solver's prior is MAX * eps, without the class mean: a share S / MAX is missing
    assert torch.allclose(means, labels.double(), atol=4 * S, rtol=2 * S / MAX)


def test_guidance_moves_from_no_class_through_the_class_and_beyond() -> None:
    (x_t,) = noise(1, 3)
    t = torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)
    labels = torch.tensor([2, 5, 1])
    D_label = class_model(x_t, t, labels)
    D_null = class_model(x_t, t, torch.full_like(labels, 9))
    expected = {0.0: D_null, 0.5: (D_null + D_label) / 2, 3.0: 3 * D_label - 2 * D_null}
    for weight, D_x in expected.items():
        found = guided(class_model, weight, null_class=9)(x_t, t, labels)
        torch.testing.assert_close(found, D_x)


@torch.no_grad()
def test_guidance_is_one_batch_of_twice_the_size() -> None:
    model = Recording(class_model)
    (x_t,) = noise(1, 3)
    t = torch.ones(3, dtype=torch.float64)
    guided(model, 2.0, null_class=9)(x_t, t, torch.tensor([2, 5, 1]))
    ((both, at, labels),) = model.calls
    assert torch.equal(both, torch.cat([x_t, x_t]))
    assert at.tolist() == [1] * 6
    assert labels.tolist() == [2, 5, 1, 9, 9, 9]


def test_without_guidance_the_model_is_left_alone() -> None:
    assert guided(class_model, 1.0, null_class=9) is class_model


def test_guided_samples_are_farther_from_no_class() -> None:
    eps, labels = noise(1, 50)[0], torch.full((50,), 2)
    x = heun(guided(class_model, 1.5, null_class=1), eps, labels=labels)
    assert x.mean().item() == pytest.approx(2.5, abs=0.1)  # 1 + 1.5 (2 - 1)


# Solvers of the probability-flow ODE


def euler(eps: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Return what Euler's method gives in as many evaluations as there are levels."""
    x = sigmas[0] * eps
    for sigma, after in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
        t = torch.full((len(x),), sigma, dtype=torch.float64)
        x = x + (after - sigma) * (x - denoiser(x, t)) / sigma
    return x


def diffusers_solution(name: str, network: nn.Module, eps: Tensor, num: int) -> Tensor:
    """Return what an untouched scheduler makes of the raw network, called as EDM does."""
    import diffusers

    scheduler = getattr(diffusers, name)(**GRID, sigma_data=S)
    scheduler.set_timesteps(num)
    x = MAX * eps
    for timestep in scheduler.timesteps:
        c_noise = 1000 * timestep.double().expand(len(x))
        F_x = network(scheduler.scale_model_input(x, timestep), c_noise, None)
        x = scheduler.step(F_x, timestep, x).prev_sample
    return x


class GaussianNetwork(nn.Module):
    """The raw network F_x whose denoiser, at sigma_data S, is that of N(MU, S^2)."""

    def forward(self, x: Tensor, c_noise: Tensor, labels: Tensor | None) -> Tensor:
        sigma = column((c_noise / 250).exp())
        return (MU * sigma / (S * (S**2 + sigma**2).sqrt())).expand_as(x).to(x.dtype)


def test_the_raw_network_of_these_tests_makes_the_exact_denoiser() -> None:
    model = Denoiser(GaussianNetwork(), sigma_data=S, sigma_min=0.0)
    (x_t,) = noise(1, 3)
    t = torch.tensor([0.01, 1.0, 50.0], dtype=torch.float64)
    torch.testing.assert_close(model(x_t, t), denoiser(x_t, t))


@pytest.mark.parametrize("num_levels", [1, 2, 5, 9])
def test_heun_evaluates_twice_at_each_level_but_the_first(num_levels: int) -> None:
    sigmas = levels(num_levels)
    model = Recording(denoiser)
    sample_heun(model, noise(1, 2)[0], sigmas)
    seen = [t[0] for t in model.levels()]
    assert len(seen) == 2 * num_levels - 1
    assert seen == [sigmas[0], *[sigma for sigma in sigmas[1:] for _ in range(2)]]


@pytest.mark.parametrize(
    "solve",
    [
        lambda eps, num: sample_heun(denoiser, eps, levels(num)),
        lambda eps, num: sample_dpm_solver(denoiser, eps, num, **GRID),
    ],
    ids=["heun", "dpm_solver"],
)
def test_both_solvers_converge_with_second_order(
    solve: Callable[[Tensor, int], Tensor],
) -> None:
    (eps,) = noise(1, 20)
    errors = [distance(solve(eps, num), solution(eps)) for num in (32, 64, 128)]
    assert errors[-1] < 5e-4
    for coarse, fine in pairwise(errors):
        assert coarse / fine == pytest.approx(4, rel=0.15)


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


@pytest.mark.parametrize("num_evaluations", [1, 2, 5, 17])
def test_dpm_solver_evaluates_once_at_each_level(num_evaluations: int) -> None:
    model = Recording(denoiser)
    sample_dpm_solver(model, noise(1, 2)[0], num_evaluations, **GRID)
    seen = [t[0] for t in model.levels()]
    assert seen == pytest.approx(levels(num_evaluations), rel=1e-5)


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


@pytest.mark.parametrize("num", [1, 5, 17])
def test_dpm_solver_is_diffusers_on_the_raw_network(num: int) -> None:
    (eps,) = noise(1, 5)
    network = GaussianNetwork()
    model = Denoiser(network, sigma_data=S, sigma_min=0.0)
    expected = diffusers_solution("EDMDPMSolverMultistepScheduler", network, eps, num)
    found = sample_dpm_solver(model, eps, num, **GRID)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("num_evaluations", [5, 9, 17, 33, 65])
def test_dpm_solver_beats_euler_with_as_many_evaluations(num_evaluations: int) -> None:
    (eps,) = noise(1, 50)
    first_order = euler(eps, levels(num_evaluations))
    theirs = diffusers_solution(
        "EDMEulerScheduler", GaussianNetwork(), eps, num_evaluations
    )
    torch.testing.assert_close(theirs, first_order, rtol=1e-4, atol=1e-4)
    second_order = sample_dpm_solver(denoiser, eps, num_evaluations, **GRID)
    ratio = distance(first_order, solution(eps)) / distance(second_order, solution(eps))
    assert ratio > 1.5
