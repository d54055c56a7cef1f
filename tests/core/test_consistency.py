from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lct_pipeline.core.consistency import (
    ConsistencyLoss,
    consistency_training_loss,
)

C = 0.1


class Scale(nn.Module):
    """f(x_t, t) = a x_t / (1 + t): a real network whose gradient is known by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(0.7))

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.a * x_t / (1 + t.reshape(-1, 1, 1, 1).to(x_t.dtype))


def batch(size: int = 5) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    r = torch.linspace(0.002, 3.0, size, dtype=torch.float64)
    return {
        "x": 0.5 * torch.randn(size, 2, 4, 4, generator=generator),
        "eps": torch.randn(size, 2, 4, 4, generator=generator),
        "r": r,
        "t": r * 1.3 + 0.01,
    }


def loss_of(model: Any, **changes: Any) -> ConsistencyLoss:
    arguments = {
        **batch(),
        "loss": "cauchy",
        "c": C,
        "diffusion_mask": torch.tensor([True, True, False, True, False]),
        "diffusion_weight": 5.0,
        "sigma_data": 0.5,
        "dropout_seed": 3,
    }
    return consistency_training_loss(model, **(arguments | changes))


def test_the_loss_is_the_reference_formula_written_as_a_loop() -> None:
    x, eps, r, t = (batch()[name].double().numpy() for name in ("x", "eps", "r", "t"))
    selected = [0, 1, 3]
    consistency, diffusion, squares = [], [], []
    for j in range(5):
        D_xt = 0.7 * (x[j] + t[j] * eps[j]) / (1 + t[j])
        D_xr = 0.7 * (x[j] + r[j] * eps[j]) / (1 + r[j])
        m = np.mean((D_xt - D_xr) ** 2)
        squares.append(m)
        consistency.append(math.log(1 + m / (2 * C**2)) / (t[j] - r[j]))
        weight = 1 / t[j] ** 2 + 1 / 0.5**2
        diffusion.append(weight * np.mean((D_xt - x[j]) ** 2) * (j in selected))
    found = loss_of(Scale())
    np.testing.assert_allclose(found.consistency.detach(), consistency, rtol=1e-4)
    np.testing.assert_allclose(found.diffusion.detach(), diffusion, rtol=1e-4)
    np.testing.assert_allclose(found.squared_difference, squares, rtol=1e-4)
    total = np.mean(consistency) + 5 * np.sum(diffusion) / len(selected)
    assert found.total.item() == pytest.approx(total, rel=1e-5)


def test_only_the_student_receives_a_gradient() -> None:
    model = Scale()
    loss_of(model, diffusion_weight=0.0).total.backward()
    x, eps, r, t = (batch()[name].double().numpy() for name in ("x", "eps", "r", "t"))
    gradient = 0.0
    for j in range(5):
        h_t = (x[j] + t[j] * eps[j]) / (1 + t[j])  # D_xt = a h_t
        h_r = (x[j] + r[j] * eps[j]) / (1 + r[j])
        m = np.mean((0.7 * (h_t - h_r)) ** 2)
        slope = 1 / (2 * C**2 + m) / (t[j] - r[j])  # of ln(1 + m / (2 c^2)) / (t - r)
        gradient += slope * np.mean(2 * 0.7 * (h_t - h_r) * h_t) / 5
    assert model.a.grad is not None
    assert model.a.grad.item() == pytest.approx(gradient, rel=1e-4)


def test_an_empty_mask_gives_no_diffusion_loss_and_no_nan() -> None:
    model = Scale()
    found = loss_of(model, diffusion_mask=torch.zeros(5, dtype=torch.bool))
    assert found.total.item() == found.consistency.mean().item()
    assert (found.diffusion == 0).all()
    found.total.backward()
    assert model.a.grad is not None
    assert torch.isfinite(model.a.grad)


def test_the_diffusion_loss_is_a_mean_over_the_selected_samples_alone() -> None:
    every = loss_of(Scale(), diffusion_mask=torch.ones(5, dtype=torch.bool))
    for j in range(5):
        mask = torch.arange(5) == j
        one = loss_of(Scale(), diffusion_mask=mask)
        part = (one.total - one.consistency.mean()) / 5.0
        assert part.item() == pytest.approx(every.diffusion[j].item(), rel=1e-3)


def test_student_and_target_share_the_dropout_mask() -> None:
    outputs: list[Tensor] = []

    def dropout_alone(x_t: Tensor, t: Tensor) -> Tensor:
        outputs.append(F.dropout(torch.ones_like(x_t), 0.5, training=True))
        return outputs[-1]

    found = loss_of(dropout_alone)
    student, target = outputs
    assert torch.equal(student, target)
    assert 0 < (student == 0).sum() < student.numel()
    assert (found.squared_difference == 0).all()
    loss_of(dropout_alone, dropout_seed=4)
    assert not torch.equal(outputs[2], student)


def test_the_global_generator_is_left_as_it_was() -> None:
    def noisy(x_t: Tensor, t: Tensor) -> Tensor:
        return F.dropout(x_t, 0.5, training=True)

    before = torch.get_rng_state()
    loss_of(noisy)
    assert torch.equal(torch.get_rng_state(), before)


def test_student_and_target_see_the_same_noise_at_their_own_level() -> None:
    seen: list[tuple[Tensor, Tensor, bool]] = []

    def recording(x_t: Tensor, t: Tensor) -> Tensor:
        seen.append((x_t, t, torch.is_grad_enabled()))
        return x_t

    loss_of(recording)
    given = batch()
    for (x_t, level, _), name in zip(seen, ("t", "r"), strict=True):
        assert torch.equal(level, given[name])
        scale = given[name].reshape(-1, 1, 1, 1).float()
        torch.testing.assert_close(x_t, given["x"] + scale * given["eps"])
    assert [with_gradient for *_, with_gradient in seen] == [True, False]


def test_a_perfectly_consistent_model_has_no_consistency_loss() -> None:
    point = batch()["x"][:1]  # data of one point: f(x_t, t) = that point
    found = loss_of(lambda x_t, t: point.expand_as(x_t), x=point.expand(5, 2, 4, 4))
    assert found.total.item() == 0


def test_each_sample_has_its_own_loss() -> None:
    whole = loss_of(Scale()).consistency
    for j in range(5):
        one = {name: value[j : j + 1] for name, value in batch().items()}
        alone = loss_of(Scale(), **one, diffusion_mask=torch.tensor([True]))
        torch.testing.assert_close(alone.consistency, whole[j : j + 1])


def test_a_half_precision_output_is_compared_in_the_type_of_the_data() -> None:
    model = Scale()
    found = loss_of(lambda x_t, t: model(x_t, t).bfloat16())
    assert found.total.dtype == torch.float32
    assert found.total.item() == pytest.approx(loss_of(model).total.item(), rel=0.05)
