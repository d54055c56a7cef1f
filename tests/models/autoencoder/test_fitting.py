"""Fitting of the small AutoencoderKL."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from small_autoencoders import autoencoder, images
from torch import Tensor

from lct_pipeline.models.autoencoder.coding import (
    decode,
    encode,
    psnr,
    squared_error,
    to_uint8,
)
from lct_pipeline.models.autoencoder.fitting import fit_autoencoder


def fit(
    model: Any, *, num_steps: int, kl_weight: float = 1e-6, seed: int = 0
) -> list[float]:
    given = images()
    losses = fit_autoencoder(
        model,
        lambda indices: given[indices],
        len(given),
        num_steps=num_steps,
        batch_size=4,
        learning_rate=5e-3,
        kl_weight=kl_weight,
        seed=seed,
    )
    return list(losses)


def test_fitting_lowers_the_loss_and_raises_the_psnr() -> None:
    model = autoencoder()

    def quality() -> float:
        reconstruction = to_uint8(decode(model, encode(model, images())[0]))
        return psnr(squared_error(images(), reconstruction), images().numel())

    before = quality()
    losses = fit(model, num_steps=40)
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    assert quality() > before + 3
    assert not model.training


def test_the_first_loss_is_reconstruction_plus_weighted_divergence() -> None:
    plain, weighted = (
        fit(autoencoder(), num_steps=1, kl_weight=weight)[0] for weight in (0.0, 2.0)
    )
    model = autoencoder()
    mean, std = encode(model, images())
    divergence = 0.5 * (mean**2 + std**2 - 1 - (std**2).log())
    of_images = divergence.mean((1, 2, 3))  # the step draws some of the images
    added = (weighted - plain) / 2.0
    assert of_images.min() <= added <= of_images.max()


def test_the_decoder_is_fitted_on_samples_of_the_posterior() -> None:
    model = autoencoder()
    moments: list[Tensor] = []
    latents: list[Tensor] = []
    model.quant_conv.register_forward_hook(lambda *given: moments.append(given[2]))
    model.post_quant_conv.register_forward_pre_hook(
        lambda _, given: latents.append(given[0])
    )
    fit(model, num_steps=2)
    eps = [
        (z - both[:, :2]) / both[:, 2:].mul(0.5).exp()
        for z, both in zip(latents, moments, strict=True)
    ]
    for noise in eps:  # 512 values
        assert abs(noise.mean().item()) < 5 / 512**0.5
        assert noise.std().item() == pytest.approx(1, abs=5 / 1024**0.5)
    assert not torch.allclose(eps[0], eps[1])


def test_fitting_repeats_itself_and_another_seed_does_not() -> None:
    first, second, other = (
        fit(autoencoder(), num_steps=3, seed=seed) for seed in (0, 0, 1)
    )
    assert first == second != other


@pytest.mark.parametrize("num_steps", [1, 2, 9, 10, 11])
def test_short_fits_do_every_step(num_steps: int) -> None:
    assert len(fit(autoencoder((4,)), num_steps=num_steps)) == num_steps
