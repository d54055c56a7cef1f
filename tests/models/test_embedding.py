from __future__ import annotations

import math

import pytest
import torch
from diffusers.models.embeddings import get_timestep_embedding

from lct_pipeline.models.embedding import sinusoidal_embedding

C_NOISE = 250 * torch.tensor([0.002, 0.5, 1.0, 80.0]).log()


@pytest.mark.parametrize("num_channels", [2, 8, 128])
def test_embedding_is_that_of_diffusers_with_cosines_first(num_channels: int) -> None:
    theirs = get_timestep_embedding(
        C_NOISE, num_channels, flip_sin_to_cos=True, downscale_freq_shift=0
    )
    found = sinusoidal_embedding(C_NOISE, num_channels)
    torch.testing.assert_close(found, theirs, atol=1e-4, rtol=0)


def test_embedding_is_the_formula_of_ddpm() -> None:
    found = sinusoidal_embedding(C_NOISE.double(), 8)
    for row, angle in zip(found.tolist(), C_NOISE.double().tolist(), strict=True):
        frequencies = [10_000 ** (-k / 4) for k in range(4)]
        cosines = [math.cos(angle * f) for f in frequencies]
        sines = [math.sin(angle * f) for f in frequencies]
        assert row == pytest.approx(cosines + sines, abs=1e-9)


def test_neighbouring_levels_of_the_finest_grid_have_distinct_embeddings() -> None:
    roots = torch.linspace(0.002 ** (1 / 7), 80 ** (1 / 7), 641)
    rows = sinusoidal_embedding(250 * (roots**7).log(), 128)
    assert (rows.diff(dim=0).norm(dim=1) > 0.1).all()
