from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lct_pipeline.core.losses import LossName, Residual
from lct_pipeline.core.objectives import (
    Batch,
    ConsistencyDistillation,
    ConsistencyTraining,
    DenoiserFunction,
    DiffusionTraining,
    Levels,
    LossParts,
    RobustLoss,
    Solver,
    TruncatedTraining,
    batch_loss,
    ode_step,
)
from lct_pipeline.core.preconditioning import Denoiser
from lct_pipeline.models.mlp import MLPNetwork

SHAPE = (2, 4, 4)
DIMENSION = 32
SIZE = 6
DATA, MIN = 0.5, 0.002
SELECTED = [True, True, False, True, False, False]
LABELS = torch.tensor([0, 1, 2, 2, 1, 0])
EVERYWHERE = torch.ones(SIZE, dtype=torch.bool)
CAUCHY, C = RobustLoss("cauchy", "mean"), 0.1

# the robust losses of the reference, of the mean square m of D values
REFERENCE: dict[LossName, Callable[[float, float], float]] = {
    "cauchy": lambda m, c: math.log(m / 2 + c**2) - 2 * math.log(c),
    "pseudo_huber": lambda m, c: math.sqrt(m + c**2) - c,
    "geman_mcclure": lambda m, c: 2 * m / (m + 4 * c**2),
    "l2": lambda m, c: m,
}


class Tanh(nn.Module):
    """F_x = tanh(a x + c_noise / 100 + b of the class): known by hand in any type."""

    def __init__(self, a: float = 0.7) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a, dtype=torch.float64))
        self.b = nn.Parameter(torch.tensor([0.0, 0.3, -0.4], dtype=torch.float64))

    def forward(
        self, x: Tensor, c_noise: Tensor, labels: Tensor | None = None
    ) -> Tensor:
        b = torch.zeros_like(c_noise) if labels is None else self.b[labels]
        return torch.tanh(self.a * x + (c_noise / 100 + b).reshape(-1, 1, 1, 1))


class Scale(nn.Module):
    """D(x_t, t) = a x_t / (1 + t): a denoiser whose gradient is known by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(0.7, dtype=torch.float64))

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        return (self.a * x_t / (1 + t.reshape(-1, 1, 1, 1))).to(x_t.dtype)


def model(a: float = 0.7) -> Denoiser:
    return Denoiser(Tanh(a), sigma_data=DATA, sigma_min=MIN)


def model_by_hand(
    x_t: np.ndarray, t: float, label: int | None, a: float = 0.7
) -> np.ndarray:
    """f(x_t, t) of ``model`` from the formulas of the reference, section 1."""
    b = 0.0 if label is None else (0.0, 0.3, -0.4)[label]
    total = math.sqrt(t**2 + DATA**2)
    F_x = np.tanh(a * x_t / total + 250 * math.log(t + 1e-44) / 100 + b)
    c_skip = DATA**2 / ((t - MIN) ** 2 + DATA**2)
    return c_skip * x_t + DATA * (t - MIN) / total * F_x


def samples(labels: bool = False, dtype: torch.dtype = torch.float64) -> Batch:
    generator = torch.Generator().manual_seed(0)
    x = 0.5 * torch.randn(SIZE, *SHAPE, generator=generator, dtype=torch.float64)
    eps = torch.randn(SIZE, *SHAPE, generator=generator, dtype=torch.float64)
    return Batch(x.to(dtype), eps.to(dtype), LABELS if labels else None)


def pairs() -> Levels:
    """Pairs on both sides of 1; one straddles it."""
    r = torch.tensor([0.002, 0.08, 0.9, 1.2, 3.0, 60.0], dtype=torch.float64)
    t = torch.tensor([0.01, 0.12, 1.1, 1.5, 4.5, 80.0], dtype=torch.float64)
    return Levels(t, r, torch.tensor(SELECTED))


def pairs_to_zero() -> Levels:
    t, r, mask = pairs()
    return Levels(t, torch.where(t < 2, 0.0, r), mask)


def generator(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def losses(kind: type, denoiser: DenoiserFunction, **changes: Any) -> LossParts:
    """Return the losses of an objective, some of its values or arguments others than usual."""
    usual: dict[str, Any] = {
        "batch": samples(),
        "levels": pairs(),
        "generator": generator(),
        "c": C,
        "robust": CAUCHY,
        "sigma_data": DATA,
        "stage1": model(0.2),
        "teacher": model(0.2),
        "truncation": 1.0,
        "boundary_weight": 0.1,
        "solver": "heun",
    }
    values = usual | changes
    objective = kind(**{field.name: values[field.name] for field in fields(kind)})
    called = ("batch", "levels", "generator", "c")
    return objective(denoiser, **{name: values[name] for name in called})


training_loss = partial(losses, ConsistencyTraining)
truncated_loss = partial(losses, TruncatedTraining)
distillation_loss = partial(losses, ConsistencyDistillation)
denoising_loss = partial(losses, DiffusionTraining)

OBJECTIVES = [training_loss, truncated_loss, distillation_loss, denoising_loss]
CONSISTENCY = [training_loss, truncated_loss, distillation_loss]
every_objective = pytest.mark.parametrize("objective", OBJECTIVES)
every_consistency_objective = pytest.mark.parametrize("objective", CONSISTENCY)
Loss = Callable[..., LossParts]


def as_loop(
    batch: Batch,
    levels: Levels,
    robust: RobustLoss,
    c: float,
    target: Callable[[int, np.ndarray, np.ndarray, int | None], np.ndarray],
) -> LossParts:
    """Compute the losses of ``model`` sample by sample, from the formulas of the reference.

    ``target`` returns D_xr of sample j from x, eps and the label.
    """
    rows = []
    for j in range(SIZE):
        x, eps = batch.x[j].double().numpy(), batch.eps[j].double().numpy()
        label = None if batch.labels is None else int(batch.labels[j])
        t, r = levels.t[j].item(), levels.r[j].item()
        D_xt = model_by_hand(x + t * eps, t, label)
        d = D_xt - target(j, x, eps, label)
        m = np.sum(d**2) if robust.residual == "sum" else np.mean(d**2)
        consistency = REFERENCE[robust.name](float(m), c) / (t - r)
        weight = 1 / t**2 + 1 / DATA**2 if levels.small_noise[j] else 0.0
        rows.append([consistency, weight * np.mean((D_xt - x) ** 2), np.mean(d**2)])
    return LossParts(*torch.tensor(rows, dtype=torch.float64).T)


def assert_close(found: LossParts, expected: LossParts, rtol: float = 1e-9) -> None:
    for ours, known in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.detach(), known.detach(), rtol=rtol, atol=0)


# batches and levels


def test_a_noised_sample_is_x_plus_t_eps() -> None:
    batch, levels = samples(), pairs()
    for j, x_t in enumerate(batch.noised(levels.t)):
        expected = batch.x[j] + levels.t[j].item() * batch.eps[j]
        torch.testing.assert_close(x_t, expected)


@pytest.mark.parametrize("labels", [False, True])
def test_a_part_has_the_samples_levels_and_classes_of_its_places(labels: bool) -> None:
    own = slice(2, 5)
    batch, levels = samples(labels), pairs()
    part = batch.part(own)
    assert torch.equal(part.x, batch.x[2:5])
    assert torch.equal(part.eps, batch.eps[2:5])
    assert (part.labels is not None) == labels
    if part.labels is not None:
        assert torch.equal(part.labels, LABELS[2:5])
    for mine, all_of_them in zip(levels.part(own), levels, strict=True):
        assert torch.equal(mine, all_of_them[2:5])


# consistency training


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("residual", get_args(Residual))
@pytest.mark.parametrize("name", get_args(LossName))
def test_consistency_training_is_the_reference_written_as_a_loop(
    name: LossName, residual: Residual, labels: bool
) -> None:
    batch, levels, robust = samples(labels), pairs(), RobustLoss(name, residual)

    def target(j: int, x: np.ndarray, eps: np.ndarray, label: int | None) -> np.ndarray:
        r = levels.r[j].item()
        return model_by_hand(x + r * eps, r, label)

    found = training_loss(model(), batch=batch, robust=robust, c=0.03)
    assert_close(found, as_loop(batch, levels, robust, 0.03, target))


def test_where_r_is_0_the_target_is_the_clean_sample() -> None:
    batch, levels = samples(labels=True), pairs_to_zero()
    assert (levels.r == 0).tolist() == [True] * 4 + [False] * 2

    def target(j: int, x: np.ndarray, eps: np.ndarray, label: int | None) -> np.ndarray:
        r = levels.r[j].item()
        return x if r == 0 else model_by_hand(x + r * eps, r, label)

    found = training_loss(model(), batch=batch, levels=levels)
    assert_close(found, as_loop(batch, levels, CAUCHY, C, target))


def test_at_the_smallest_level_the_target_is_the_noised_sample_itself() -> None:
    seen: list[Tensor] = []
    f = model()
    f.register_forward_hook(lambda _, given, D_x: seen.append(D_x - given[0]))
    training_loss(f)
    _, target = seen
    assert (target[0] == 0).all()  # r = sigma_min
    assert (target[1] != 0).any()


def test_ict_is_the_pseudo_huber_of_the_norm_alone() -> None:
    batch, levels = samples(), pairs()
    c = 0.00054 * math.sqrt(DIMENSION)
    expected = 0.0
    for j in range(SIZE):
        x, eps = batch.x[j].numpy(), batch.eps[j].numpy()
        t, r = levels.t[j].item(), levels.r[j].item()
        d = model_by_hand(x + t * eps, t, None) - model_by_hand(x + r * eps, r, None)
        huber = math.sqrt(np.linalg.norm(d) ** 2 + c**2) - c
        expected += huber / (t - r) / SIZE
    parts = training_loss(model(), robust=RobustLoss("pseudo_huber", "sum"), c=c)
    loss = batch_loss(parts, diffusion_weight=0.0, batch_size=SIZE, num_small_noise=3)
    assert loss.item() == pytest.approx(expected, rel=1e-9)


def test_the_loss_of_slct_in_float32_agrees_with_the_reference_in_float64() -> None:
    f = Denoiser(Tanh().float(), sigma_data=DATA, sigma_min=MIN)
    batch, levels = samples(dtype=torch.float32), pairs()
    c = 0.03456

    def target(j: int, x: np.ndarray, eps: np.ndarray, label: int | None) -> np.ndarray:
        r = levels.r[j].item()
        return model_by_hand(x + r * eps, r, label)

    expected = as_loop(batch, levels, CAUCHY, c, target)
    found = training_loss(f, batch=batch, c=c)
    assert found.consistency.dtype == torch.float32
    assert_close(found, expected, rtol=1e-4)  # differences of nearly equal numbers
    loss = batch_loss(found, diffusion_weight=5.0, batch_size=SIZE, num_small_noise=3)
    total = expected.consistency.mean() + 5 * expected.diffusion.sum() / 3
    assert loss.item() == pytest.approx(total.item(), rel=1e-6)


@every_consistency_objective
def test_the_diffusion_part_is_on_the_selected_samples_alone(objective: Loss) -> None:
    every = objective(model(), levels=pairs()._replace(small_noise=EVERYWHERE))
    found = objective(model())
    mask = torch.tensor(SELECTED)
    torch.testing.assert_close(found.diffusion[mask], every.diffusion[mask])
    assert (found.diffusion[~mask] == 0).all()
    assert (every.diffusion > 0).all()


@every_objective
def test_each_sample_has_its_own_loss(objective: Loss) -> None:
    whole = objective(model(), batch=samples(labels=True))
    for j in range(SIZE):
        own = slice(j, j + 1)
        batch, levels = samples(labels=True).part(own), pairs().part(own)
        alone = objective(model(), batch=batch, levels=levels)
        for mine, all_of_them in zip(alone, whole, strict=True):
            torch.testing.assert_close(mine, all_of_them[own])


def test_a_perfectly_consistent_model_has_no_consistency_loss() -> None:
    batch = samples()
    point = batch.x[:1]  # data of one point: f(x_t, t) = that point

    def constant(x_t: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        return point.expand_as(x_t)

    batch = batch._replace(x=point.expand_as(batch.x))
    for parts in training_loss(constant, batch=batch):
        assert (parts == 0).all()


# gradients


def test_only_the_student_receives_a_gradient() -> None:
    f = Scale()
    parts = training_loss(f)
    parts.consistency.mean().backward()
    batch, levels = samples(), pairs()
    expected = 0.0
    for j in range(SIZE):
        x, eps = batch.x[j].numpy(), batch.eps[j].numpy()
        t, r = levels.t[j].item(), levels.r[j].item()
        h_t = (x + t * eps) / (1 + t)  # D_xt = a h_t
        h_r = (x + r * eps) / (1 + r)
        m = np.mean((0.7 * (h_t - h_r)) ** 2)
        slope = 1 / (2 * 0.1**2 + m) / (t - r)  # of ln(1 + m / (2 c^2)) / (t - r)
        expected += slope * np.mean(2 * 0.7 * (h_t - h_r) * h_t) / SIZE
    assert f.a.grad is not None
    assert f.a.grad.item() == pytest.approx(expected, rel=1e-9)


def test_where_the_target_is_the_data_the_gradient_is_that_of_a_regression() -> None:
    f = Scale()
    levels = pairs()._replace(r=torch.zeros(SIZE, dtype=torch.float64))
    robust = RobustLoss("l2", "mean")
    training_loss(f, levels=levels, robust=robust).consistency.sum().backward()
    batch = samples()
    expected = 0.0
    for j in range(SIZE):
        x, t = batch.x[j].numpy(), levels.t[j].item()
        h_t = (x + t * batch.eps[j].numpy()) / (1 + t)
        expected += np.mean(2 * (0.7 * h_t - x) * h_t) / t
    assert f.a.grad is not None
    assert f.a.grad.item() == pytest.approx(expected, rel=1e-9)


@every_consistency_objective
def test_the_target_is_computed_without_gradient(objective: Loss) -> None:
    outputs: list[Tensor] = []
    f = model()
    f.register_forward_hook(lambda _, given, D_x: outputs.append(D_x))
    objective(f)
    assert [D_x.requires_grad for D_x in outputs] == [True, False]


@every_objective
def test_a_model_that_teaches_receives_no_gradient(objective: Loss) -> None:
    frozen = model(0.2)
    roles = {truncated_loss: "stage1", distillation_loss: "teacher"}
    further = {roles[objective]: frozen} if objective in roles else {}
    student = model()
    parts = objective(student, **further)
    (parts.consistency + parts.diffusion).sum().backward()
    gradient = student.network.get_parameter("a").grad
    assert gradient is not None
    assert gradient.abs() > 0
    assert frozen.network.get_parameter("a").grad is None
    assert not parts.squared_difference.requires_grad


def test_the_diffusion_part_reaches_the_student_through_the_same_forward_pass() -> None:
    f = Scale()
    calls: list[Tensor] = []
    f.register_forward_pre_hook(lambda _, given: calls.append(given[1]))
    training_loss(f).diffusion.sum().backward()
    assert len(calls) == 2  # student and target: no pass more
    batch, levels = samples(), pairs()
    expected = 0.0
    for j in np.flatnonzero(SELECTED):
        x, t = batch.x[j].numpy(), levels.t[j].item()
        h_t = (x + t * batch.eps[j].numpy()) / (1 + t)
        expected += (1 / t**2 + 4) * np.mean(2 * (0.7 * h_t - x) * h_t)
    assert f.a.grad is not None
    assert f.a.grad.item() == pytest.approx(expected, rel=1e-9)


# dropout and the global generators


def dropout_alone(outputs: list[Tensor]) -> DenoiserFunction:
    """A denoiser that returns its dropout mask, whatever it is given."""

    def mask(x_t: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        outputs.append(F.dropout(torch.ones_like(x_t), 0.5, training=True))
        return outputs[-1]

    return mask


@pytest.mark.parametrize("levels", [pairs(), pairs_to_zero()])
def test_student_and_target_share_the_dropout_mask(levels: Levels) -> None:
    outputs: list[Tensor] = []
    found = training_loss(dropout_alone(outputs), levels=levels)
    student, target = outputs
    assert torch.equal(student, target)
    assert 0 < (student == 0).sum() < student.numel()
    assert (found.squared_difference[levels.r > 0] == 0).all()


def test_a_network_with_dropout_differs_from_itself_by_the_level_alone() -> None:
    torch.manual_seed(0)
    network = MLPNetwork(
        SHAPE,
        width=16,
        num_blocks=2,
        norm="non_scaling_layer_norm",
        output_norm="non_scaling_layer_norm",
        dropout=0.5,
        num_classes=0,
    )
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.1 * torch.randn_like(p))
    f = Denoiser(network, sigma_data=DATA, sigma_min=MIN).train()
    batch = samples(dtype=torch.float32)
    equal = pairs()._replace(r=pairs().t)
    assert (training_loss(f, batch=batch, levels=equal).squared_difference == 0).all()
    assert (f(batch.x, equal.t) != f(batch.x, equal.t)).any()  # it does drop out


def test_truncated_student_and_target_share_the_mask_of_the_second_stage() -> None:
    outputs: list[Tensor] = []
    truncated_loss(dropout_alone(outputs))
    assert torch.equal(outputs[0], outputs[1])


def test_distilled_student_and_target_share_the_dropout_mask() -> None:
    outputs: list[Tensor] = []
    found = distillation_loss(dropout_alone(outputs))
    assert torch.equal(outputs[0], outputs[1])
    assert (found.squared_difference == 0).all()


@every_objective
def test_the_mask_follows_the_generator(objective: Loss) -> None:
    first: list[Tensor] = []
    for seed in (3, 3, 4):
        outputs: list[Tensor] = []
        objective(dropout_alone(outputs), generator=generator(seed))
        first.append(outputs[0])
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])


@every_objective
def test_the_global_generator_is_left_as_it_was(objective: Loss) -> None:
    before = torch.get_rng_state()
    objective(dropout_alone([]))
    assert torch.equal(torch.get_rng_state(), before)


# what the models are given


Seen = list[tuple[Tensor, Tensor, Tensor | None, bool]]


def recording(seen: Seen) -> DenoiserFunction:
    def identity(x_t: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        seen.append((x_t, t, labels, torch.is_grad_enabled()))
        return x_t

    return identity


def test_student_and_target_see_the_same_noise_at_their_own_level() -> None:
    seen: Seen = []
    training_loss(recording(seen))
    given, levels = samples(), pairs()
    for (x_t, level, *_), own in zip(seen, (levels.t, levels.r), strict=True):
        assert torch.equal(level, own)
        torch.testing.assert_close(x_t, given.x + own.reshape(-1, 1, 1, 1) * given.eps)
    assert [with_gradient for *_, with_gradient in seen] == [True, False]


def test_no_model_is_asked_for_its_output_at_level_0() -> None:
    for objective in (training_loss, truncated_loss):
        seen: Seen = []
        further: dict[str, Any] = {}
        if objective is truncated_loss:
            further = {"stage1": recording(seen)}
        found = objective(recording(seen), levels=pairs_to_zero(), **further)
        assert all((level > 0).all() for _, level, *_ in seen)
        assert all(torch.isfinite(part).all() for part in found)


@pytest.mark.parametrize("labels", [False, True])
@every_objective
def test_classes_are_passed_to_every_model(objective: Loss, labels: bool) -> None:
    seen: Seen = []
    roles = {truncated_loss: "stage1", distillation_loss: "teacher"}
    further = {roles[objective]: recording(seen)} if objective in roles else {}
    batch = samples(labels)
    objective(recording(seen), batch=batch, **further)
    calls = {
        training_loss: 2,
        truncated_loss: 3,  # the frozen model's target too
        distillation_loss: 4,  # the teacher twice, by Heun's method
        denoising_loss: 1,
    }
    assert len(seen) == calls[objective]
    if objective is truncated_loss:  # asked for the samples at the boundary alone
        *_, (_, _, frozen_labels, _) = seen
        boundary = pairs().r < 1.0
        expected = batch.labels if batch.labels is None else batch.labels[boundary]
        assert (frozen_labels is None) is (expected is None)
        assert expected is None or torch.equal(frozen_labels, expected)
        seen = seen[:-1]
    assert all(given is batch.labels for _, _, given, _ in seen)


@every_objective
def test_the_class_changes_the_loss_of_a_conditional_model(objective: Loss) -> None:
    batch = samples(labels=True)
    other = batch._replace(labels=(LABELS + 1) % 3)
    first, second = (objective(model(), batch=b).consistency for b in (batch, other))
    assert (first != second).all()


@every_objective
def test_a_half_precision_output_is_compared_in_the_type_of_the_data(
    objective: Loss,
) -> None:
    def half(x_t: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        return Scale()(x_t, t).bfloat16()

    batch = samples(dtype=torch.float32)
    found, exact = (objective(f, batch=batch) for f in (half, Scale()))
    for rounded, known in zip(found, exact, strict=True):
        assert rounded.dtype == torch.float32
        torch.testing.assert_close(rounded, known, rtol=0.1, atol=0.1)


# truncated consistency training


@pytest.mark.parametrize("weight", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("levels", [pairs(), pairs_to_zero()])
def test_truncated_training_is_its_formula_written_as_a_loop(
    levels: Levels, weight: float
) -> None:
    batch = samples(labels=True)

    def target(j: int, x: np.ndarray, eps: np.ndarray, label: int | None) -> np.ndarray:
        r = levels.r[j].item()
        if r == 0:
            return x
        a = 0.2 if r < 1.0 else 0.7  # the frozen first stage below t', else its own
        return model_by_hand(x + r * eps, r, label, a)

    plain = as_loop(batch, levels, CAUCHY, C, target)
    expected = plain._replace(
        consistency=plain.consistency * torch.where(levels.r < 1.0, weight, 1.0)
    )
    found = truncated_loss(model(), batch=batch, levels=levels, boundary_weight=weight)
    assert_close(found, expected)


def test_the_frozen_model_is_the_target_below_the_truncation_alone() -> None:
    def constant(value: float) -> DenoiserFunction:
        return lambda x_t, t, labels: torch.full_like(x_t, value)

    found = truncated_loss(constant(1.0), stage1=constant(3.0))
    at_boundary = pairs().r < 1.0
    assert (found.squared_difference[at_boundary] == 4).all()
    assert (found.squared_difference[~at_boundary] == 0).all()


def test_a_pair_that_ends_at_the_truncation_is_not_at_the_boundary() -> None:
    levels = pairs()._replace(r=torch.ones(SIZE, dtype=torch.float64))
    with_frozen = truncated_loss(model(), levels=levels, boundary_weight=0.0)
    assert_close(with_frozen, training_loss(model(), levels=levels))


# diffusion


def test_the_diffusion_objective_is_edms() -> None:
    batch, levels = samples(labels=True), pairs()
    expected = []
    for j in range(SIZE):
        x, eps, sigma = batch.x[j].numpy(), batch.eps[j].numpy(), levels.t[j].item()
        D_x = model_by_hand(x + sigma * eps, sigma, int(LABELS[j]))
        weight = (sigma**2 + DATA**2) / (sigma * DATA) ** 2  # EDM, table 1
        expected.append(weight * np.mean((D_x - x) ** 2))
    found = denoising_loss(model(), batch=batch)
    np.testing.assert_allclose(found.consistency.detach(), expected, rtol=1e-9)
    assert (found.diffusion == 0).all()
    assert (found.squared_difference == 0).all()


def test_the_diffusion_objective_does_not_look_at_r_nor_at_the_mask() -> None:
    other = Levels(pairs().t, torch.zeros(SIZE), ~EVERYWHERE)
    assert_close(denoising_loss(model(), levels=other), denoising_loss(model()))


# distillation, on Gaussian data of standard deviation S, where all is known


S = 0.5


def gaussian_denoiser(x_t: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
    """E[x | x_t] of data N(0, S^2)."""
    return (S**2 / (S**2 + t**2)).reshape(-1, 1, 1, 1) * x_t


def along_the_ode(x_t: Tensor, t: Tensor, r: Tensor) -> Tensor:
    """Where the probability-flow ODE leads from x_t at t to at r."""
    ratio = ((S**2 + r**2) / (S**2 + t**2)).sqrt()
    return ratio.reshape(-1, 1, 1, 1) * x_t


def gaussian_consistency(x_t: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
    return along_the_ode(x_t, t, torch.full_like(t, MIN))


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("solver", get_args(Solver))
def test_one_step_is_the_solvers_formula(solver: Solver, labels: bool) -> None:
    batch, levels = samples(labels), pairs()
    x_t = batch.noised(levels.t)
    found = ode_step(model(), x_t, levels.t, levels.r, batch.labels, solver)
    for j in range(SIZE):
        x, label = x_t[j].numpy(), int(LABELS[j]) if labels else None
        t, r = levels.t[j].item(), levels.r[j].item()
        slope = (x - model_by_hand(x, t, label)) / t
        expected = x + (r - t) * slope
        if solver == "heun":  # EDM, algorithm 1
            second = (expected - model_by_hand(expected, r, label)) / r
            expected = x + (r - t) * (slope + second) / 2
        np.testing.assert_allclose(found[j].detach(), expected, rtol=1e-9)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2)])
def test_the_error_of_many_steps_falls_with_the_order_of_the_solver(
    solver: Solver, order: int
) -> None:
    x = samples().eps[:1]

    def error(num_steps: int) -> float:
        levels = torch.linspace(2.0, 0.2, num_steps + 1, dtype=torch.float64)
        at = x
        for t, r in itertools.pairwise(levels):
            at = ode_step(gaussian_denoiser, at, t[None], r[None], None, solver)
        exact = along_the_ode(x, levels[:1], levels[-1:])
        return (at - exact).abs().max().item()

    assert error(64) / error(128) == pytest.approx(2**order, rel=0.05)
    assert error(128) < 0.02


@pytest.mark.parametrize("solver", get_args(Solver))
def test_distillation_is_its_formula_written_as_a_loop(solver: Solver) -> None:
    batch, levels = samples(labels=True), pairs()

    def target(j: int, x: np.ndarray, eps: np.ndarray, label: int | None) -> np.ndarray:
        t, r = levels.t[j].item(), levels.r[j].item()
        x_t = x + t * eps
        slope = (x_t - model_by_hand(x_t, t, label, 0.2)) / t
        x_r = x_t + (r - t) * slope
        if solver == "heun":
            second = (x_r - model_by_hand(x_r, r, label, 0.2)) / r
            x_r = x_t + (r - t) * (slope + second) / 2
        return model_by_hand(x_r, r, label)

    found = distillation_loss(model(), batch=batch, solver=solver)
    assert_close(found, as_loop(batch, levels, CAUCHY, C, target))


@pytest.mark.parametrize(("solver", "rate"), [("euler", 2), ("heun", 3)])
def test_the_exact_consistency_function_and_teacher_have_no_loss(
    solver: Solver, rate: int
) -> None:
    def spread(gap: float) -> float:
        r = pairs().r.clamp_min(0.05)
        found = distillation_loss(
            gaussian_consistency,
            teacher=gaussian_denoiser,
            solver=solver,
            levels=pairs()._replace(t=r * (1 + gap), r=r),
        )
        return found.squared_difference.mean().sqrt().item()

    # what one step of the solver leaves, and nothing else
    assert spread(0.02) / spread(0.01) == pytest.approx(2**rate, rel=0.1)
    assert spread(0.01) < {"euler": 1e-4, "heun": 1e-6}[solver]


def test_the_teacher_itself_is_no_consistency_function() -> None:
    r = pairs().r.clamp_min(0.05)
    levels = pairs()._replace(t=1.01 * r, r=r)
    wrong, right = (
        distillation_loss(f, teacher=gaussian_denoiser, levels=levels).consistency
        for f in (gaussian_denoiser, gaussian_consistency)
    )
    assert (wrong > 100 * right).all()


# reduction


@every_objective
@pytest.mark.parametrize("cuts", [[6], [3, 3], [1, 2, 3], [1] * 6])
def test_the_shares_of_all_parts_add_up_to_the_loss_of_the_batch(
    objective: Loss, cuts: list[int]
) -> None:
    parts = objective(model())
    shares = []
    for own in zip(*(part.split(cuts) for part in parts), strict=True):
        shares.append(
            batch_loss(
                LossParts(*own),
                diffusion_weight=5.0,
                batch_size=SIZE,
                num_small_noise=3,
            )
        )
    expected = parts.consistency.mean() + 5.0 * parts.diffusion.sum() / 3
    torch.testing.assert_close(sum(shares), expected)


def test_a_batch_without_small_noise_has_no_diffusion_loss_and_no_nan() -> None:
    f = Scale()
    none = pairs()._replace(small_noise=~EVERYWHERE)
    parts = training_loss(f, levels=none)
    loss = batch_loss(parts, diffusion_weight=5.0, batch_size=SIZE, num_small_noise=0)
    assert loss.item() == pytest.approx(parts.consistency.mean().item(), rel=1e-12)
    loss.backward()
    assert f.a.grad is not None
    assert torch.isfinite(f.a.grad)


def test_the_diffusion_loss_is_a_mean_over_the_selected_samples_alone() -> None:
    parts = training_loss(model())
    on, off = (
        batch_loss(parts, diffusion_weight=w, batch_size=SIZE, num_small_noise=3)
        for w in (5.0, 0.0)
    )
    selected = parts.diffusion[torch.tensor(SELECTED)]
    torch.testing.assert_close(on - off, 5 * selected.mean())
