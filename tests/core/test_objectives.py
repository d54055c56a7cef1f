from __future__ import annotations

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

from lct_pipeline.core.losses import ROBUST_LOSSES, LossName, Residual
from lct_pipeline.core.objectives import (
    Batch,
    ConsistencyDistillation,
    ConsistencyTraining,
    DiffusionTraining,
    Levels,
    LossParts,
    RobustLoss,
    Solver,
    TruncatedTraining,
    batch_loss,
)
from lct_pipeline.core.preconditioning import Denoiser, Model

SHAPE = (2, 4, 4)


SIZE = 6


DATA, MIN = 0.5, 0.002


SELECTED = [True, True, False, True, False, False]


LABELS = torch.tensor([0, 1, 2, 2, 1, 0])


CAUCHY, C = RobustLoss("cauchy", "mean"), 0.1


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


def losses(kind: type, denoiser: Model, **changes: Any) -> LossParts:
    """Return the losses of an objective, some of its values or arguments others than usual."""
    usual: dict[str, Any] = {
        "batch": samples(),
        "levels": pairs(),
        "seed": 3,
        "c": C,
        "robust": CAUCHY,
        "sigma_data": DATA,
        "stage1": model(0.2),
        "teacher": model(0.2),
        "truncation": 1.0,
        "boundary_weight": 0.1,
        "boundary_share": 0.25,
        "solver": "heun",
    }
    values = usual | changes
    objective = kind(**{field.name: values[field.name] for field in fields(kind)})
    called = ("batch", "levels", "seed", "c")
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
        consistency = ROBUST_LOSSES[robust.name](torch.tensor(m), c).item() / (t - r)
        weight = 1 / t**2 + 1 / DATA**2 if levels.small_noise[j] else 0.0
        rows.append([consistency, weight * np.mean((D_xt - x) ** 2), np.mean(d**2)])
    return LossParts(*torch.tensor(rows, dtype=torch.float64).T)


def assert_close(found: LossParts, expected: LossParts, rtol: float = 1e-9) -> None:
    for ours, known in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.detach(), known.detach(), rtol=rtol, atol=0)


@pytest.mark.parametrize(
    ("levels", "labels"), [(pairs(), True), (pairs(), False), (pairs_to_zero(), True)]
)
@pytest.mark.parametrize("residual", get_args(Residual))
@pytest.mark.parametrize("name", get_args(LossName))
def test_consistency_training_is_the_reference_written_as_a_loop(
    name: LossName, residual: Residual, levels: Levels, labels: bool
) -> None:
    batch, robust = samples(labels), RobustLoss(name, residual)

    def target(j: int, x: np.ndarray, eps: np.ndarray, label: int | None) -> np.ndarray:
        r = levels.r[j].item()  # at 0 the target is the clean sample
        return x if r == 0 else model_by_hand(x + r * eps, r, label)

    found = training_loss(model(), batch=batch, levels=levels, robust=robust, c=0.03)
    assert_close(found, as_loop(batch, levels, robust, 0.03, target))


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


def dropout_alone(outputs: list[Tensor]) -> Model:
    """A denoiser that returns its dropout mask, whatever it is given."""

    def mask(x_t: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        outputs.append(F.dropout(torch.ones_like(x_t), 0.5, training=True))
        return outputs[-1]

    return mask


@pytest.mark.parametrize("levels", [pairs(), pairs_to_zero()])
@every_consistency_objective
def test_student_and_target_share_the_dropout_mask(
    objective: Loss, levels: Levels
) -> None:
    outputs: list[Tensor] = []
    levels = pairs() if objective is distillation_loss else levels
    found = objective(dropout_alone(outputs), levels=levels)
    student, target = outputs
    assert torch.equal(student, target)
    assert 0 < (student == 0).sum() < student.numel()
    assert (found.squared_difference[levels.r >= 1] == 0).all()


@every_objective
def test_a_half_precision_output_is_compared_in_the_type_of_the_data(
    objective: Loss,
) -> None:
    def half(x_t: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        return model()(x_t, t).bfloat16()

    batch = samples(dtype=torch.float32)
    found, exact = (objective(f, batch=batch) for f in (half, model()))
    for rounded, known in zip(found, exact, strict=True):
        assert rounded.dtype == torch.float32
        torch.testing.assert_close(rounded, known, rtol=0.1, atol=0.1)


def truncated(levels: Levels) -> Levels:
    """Levels of a truncation at 1: two samples at it, one pair that straddles it."""
    t = torch.tensor([1.0, 1.0, 1.1, 1.5, 4.5, 80.0], dtype=torch.float64)
    return levels._replace(t=t)


@pytest.mark.parametrize("weight", [0.0, 0.1, 1.0])
@pytest.mark.parametrize(
    "levels", [truncated(pairs()), truncated(pairs_to_zero())], ids=["above 0", "to 0"]
)
def test_truncated_training_is_its_formula_written_as_a_loop(
    levels: Levels, weight: float
) -> None:
    """TCM: mean over the ordinary samples + w_b times the mean over those at the boundary."""
    batch = samples(labels=True)

    def target(j: int, x: np.ndarray, eps: np.ndarray, label: int | None) -> np.ndarray:
        r = levels.r[j].item()
        if r == 0:
            return x
        a = 0.2 if r < 1.0 else 0.7  # the frozen first stage below t', else its own
        return model_by_hand(x + r * eps, r, label, a)

    plain = as_loop(batch, levels, CAUCHY, C, target)
    found = truncated_loss(
        model(),
        batch=batch,
        levels=levels,
        boundary_weight=weight,
        boundary_share=2 / SIZE,
    )
    loss = batch_loss(found, diffusion_weight=0.0, batch_size=SIZE, num_small_noise=0)
    boundary, ordinary = plain.consistency.split([2, 4])
    expected = ordinary.mean() + weight * boundary.mean()
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    assert_close(found._replace(consistency=plain.consistency), plain)


def test_a_pair_that_ends_at_the_truncation_has_its_own_target() -> None:
    levels = pairs()._replace(r=torch.ones(SIZE, dtype=torch.float64))
    levels = levels._replace(t=levels.r + 1)
    parts = truncated_loss(model(), levels=levels, boundary_share=0.5)
    of_own = parts._replace(consistency=parts.consistency / 2)  # none at the boundary
    assert_close(of_own, training_loss(model(), levels=levels))


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


def test_the_diffusion_objective_is_edms() -> None:
    batch = samples(labels=True)
    everywhere = pairs()._replace(small_noise=torch.ones(SIZE, dtype=torch.bool))
    by_hand = as_loop(batch, everywhere, CAUCHY, C, lambda j, x, eps, label: x)
    none = torch.zeros(SIZE, dtype=torch.float64)
    found = denoising_loss(model(), batch=batch)
    assert_close(found, LossParts(by_hand.diffusion, none, none))


def test_only_the_student_receives_a_gradient() -> None:
    student, frozen = model(), model()
    of_itself = training_loss(student)
    of_another = truncated_loss(
        student, stage1=frozen, truncation=100.0, boundary_weight=0.25
    )
    a = student.network.get_parameter("a")
    first, second = (
        torch.autograd.grad(parts.consistency.sum(), a)
        for parts in (of_itself, of_another)
    )
    torch.testing.assert_close(first, second)


def test_a_batch_without_small_noise_has_no_diffusion_loss_and_no_nan() -> None:
    none = pairs()._replace(small_noise=torch.zeros(SIZE, dtype=torch.bool))
    parts = training_loss(model(), levels=none)
    loss = batch_loss(parts, diffusion_weight=5.0, batch_size=SIZE, num_small_noise=0)
    torch.testing.assert_close(loss, parts.consistency.mean())
