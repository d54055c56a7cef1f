from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from lct_pipeline.core.preconditioning import (
    Denoiser,
)

DATA, MIN = 0.5, 0.002


LEVELS = [0.002, 0.0021, 0.02, 0.529, 3.309, 80.0]


class Recording(nn.Module):
    """A small real network that keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.seen: list[tuple[Tensor, Tensor]] = []

    def forward(
        self, x: Tensor, c_noise: Tensor, labels: Tensor | None = None
    ) -> Tensor:
        self.seen.append((x.detach(), c_noise))
        return 100 * self.conv(x)


def consistency_model() -> Denoiser:
    return Denoiser(Recording(), sigma_data=DATA, sigma_min=MIN)


def test_at_the_smallest_level_the_model_is_the_identity() -> None:
    x = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    for dtype in (torch.float32, torch.float64):
        t = torch.full((3,), MIN, dtype=dtype)
        D_x = consistency_model()(x, t)
        assert D_x.dtype == torch.float32
        # float32 levels round sigma_min itself, by 1e-10
        torch.testing.assert_close(D_x, x, atol=1e-6, rtol=0)
    exact = consistency_model()(x, torch.full((3,), MIN, dtype=torch.float64))
    assert torch.equal(exact, x)


def test_the_model_is_skip_plus_scaled_network_of_scaled_input() -> None:
    model = consistency_model()
    network = model.network
    x_t = torch.randn(6, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    t = torch.tensor(LEVELS, dtype=torch.float64)
    D_x = model(x_t, t)
    given, c_noise = network.seen[0]
    for j, sigma in enumerate(LEVELS):
        c_in = 1 / math.hypot(sigma, DATA)
        torch.testing.assert_close(given[j], c_in * x_t[j])
        assert c_noise[j].item() == pytest.approx(250 * math.log(sigma), rel=1e-6)
        F_x = network(c_in * x_t[j : j + 1], c_noise[j : j + 1])[0]
        c_skip = DATA**2 / ((sigma - MIN) ** 2 + DATA**2)
        c_out = DATA * (sigma - MIN) / math.hypot(sigma, DATA)
        torch.testing.assert_close(D_x[j], c_skip * x_t[j] + c_out * F_x)
