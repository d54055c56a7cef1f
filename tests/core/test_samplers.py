from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lct_pipeline.core.samplers import sample_multistep

MIN, MAX = 0.002, 80.0
MU, S = 1.5, 0.5


def gaussian_model(x_t: Tensor, t: Tensor) -> Tensor:
    """The exact consistency function of data N(MU, S^2)."""
    factor = torch.sqrt((S**2 + MIN**2) / (S**2 + t**2)).reshape(-1, 1, 1, 1)
    return MU + (x_t.double() - MU) * factor


def noise(num: int, size: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (size, 1, 2, 2)
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(num)
    ]


def test_one_step_is_the_model_at_the_largest_level() -> None:
    (eps,) = noise(1, 4)
    x = sample_multistep(gaussian_model, [eps], [MAX], sigma_min=MIN)
    scale = math.sqrt((S**2 + MIN**2) / (S**2 + MAX**2))
    torch.testing.assert_close(x, MU + (MAX * eps - MU) * scale)


def test_three_steps_are_algorithm_1_written_out() -> None:
    e = noise(3, 4)
    sigmas = [MAX, 2.5, 0.529]
    x = sample_multistep(gaussian_model, e, sigmas, sigma_min=MIN)

    def f(x_t: Tensor, sigma: float) -> Tensor:
        return gaussian_model(x_t, torch.full((4,), sigma, dtype=torch.float64))

    slow = f(80 * e[0], 80)
    slow = f(slow + math.sqrt(2.5**2 - MIN**2) * e[1], 2.5)
    slow = f(slow + math.sqrt(0.529**2 - MIN**2) * e[2], 0.529)
    torch.testing.assert_close(x, slow)


@pytest.mark.parametrize("sigmas", [[MAX], [MAX, 0.529], [MAX, 3.0, 0.2]])
def test_samples_of_the_exact_model_have_the_datas_distribution(
    sigmas: list[float],
) -> None:
    size = 5000
    eps = noise(len(sigmas), size)
    x = sample_multistep(gaussian_model, eps, sigmas, sigma_min=MIN)
    num_values = 4 * size
    assert abs(x.mean().item() - MU) < 5 * S / num_values**0.5 + MU * S / MAX
    assert x.std().item() == pytest.approx(math.hypot(S, MIN), rel=0.02)


def test_samples_of_one_point_fall_on_it_within_the_smallest_level() -> None:
    def point(x_t: Tensor, t: Tensor) -> Tensor:
        return MU + (x_t - MU) * (MIN / t).reshape(-1, 1, 1, 1)

    x = sample_multistep(point, noise(2, 50), [MAX, 0.5], sigma_min=MIN)
    assert ((x - MU).abs() < 6 * MIN).all()


def test_the_model_sees_one_level_per_sample_once_per_evaluation() -> None:
    seen: list[list[float]] = []

    def recording(x_t: Tensor, t: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        seen.append(t.tolist())
        return x_t

    sample_multistep(recording, noise(2, 3), [MAX, 0.5], sigma_min=MIN)
    assert seen == [[MAX] * 3, [0.5] * 3]


def test_noise_for_every_level_is_required() -> None:
    with pytest.raises(ValueError, match="zip"):
        sample_multistep(gaussian_model, noise(1, 2), [MAX, 0.5], sigma_min=MIN)
