from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lct_pipeline.core.normalisation import PosteriorMoments

SHAPE = (2, 3, 3)


def posteriors(num: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    deviation = 1 + 4 * torch.rand(SHAPE, generator=generator)
    means = 100 + deviation * torch.randn(num, *SHAPE, generator=generator)
    return means, 0.5 + torch.rand(num, *SHAPE, generator=generator)


def moments_of(means: Tensor, stds: Tensor, sizes: list[int]) -> PosteriorMoments:
    moments = PosteriorMoments(SHAPE)
    for m, s in zip(means.split(sizes), stds.split(sizes), strict=True):
        moments.update(m, s)
    return moments


@pytest.mark.parametrize("sizes", [[40], [1, 39], [13, 13, 14], [1] * 40])
def test_statistics_follow_the_law_of_total_variance_at_every_position(
    sizes: list[int],
) -> None:
    means, stds = posteriors(40)
    normalisation = moments_of(means, stds, sizes).normalisation(0.5)
    m, s = means.double().numpy(), stds.double().numpy()
    np.testing.assert_allclose(normalisation.mean, m.mean(0), rtol=1e-6)
    np.testing.assert_allclose(
        normalisation.std, np.sqrt(m.var(0, ddof=1) + (s**2).mean(0)), rtol=1e-6
    )
    assert normalisation.mean.shape == normalisation.std.shape == SHAPE


def test_normalised_latents_have_mean_0_and_the_standard_deviation_of_the_data() -> (
    None
):
    means, _ = posteriors(300)
    none = torch.zeros_like(means)
    normalisation = moments_of(means, none, [300]).normalisation(0.5)
    x = normalisation.normalise(means)
    np.testing.assert_allclose(x.mean(0), np.zeros(SHAPE), atol=1e-4)
    np.testing.assert_allclose(x.std(0), np.full(SHAPE, 0.5), rtol=1e-4)
    torch.testing.assert_close(normalisation.denormalise(x), means)


def test_a_position_that_never_changes_becomes_0_and_comes_back() -> None:
    means, stds = posteriors(20)
    means[:, 1, 2, 0], stds[:, 1, 2, 0] = 3.0, 0.0
    normalisation = moments_of(means, stds, [20]).normalisation(0.5)
    x = normalisation.normalise(means)
    assert torch.isfinite(x).all()
    assert (x[:, 1, 2, 0] == 0).all()
    torch.testing.assert_close(normalisation.denormalise(x), means)


@pytest.mark.parametrize("num", [0, 1])
def test_too_few_images_are_refused(num: int) -> None:
    moments = PosteriorMoments(SHAPE)
    if num:
        moments.update(*posteriors(num))
    with pytest.raises(ValueError, match=f"at least 2 images, got {num}"):
        moments.normalisation(0.5)
