from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lct_pipeline.models.autoencoder import (
    PixelAutoencoder,
    build_autoencoder,
    decode,
    encode,
    fit_autoencoder,
    place,
    psnr,
    to_float,
    to_uint8,
)


def autoencoder(block_channels: Sequence[int] = (8, 16)) -> Any:
    torch.manual_seed(0)
    return build_autoencoder(block_channels=block_channels, latent_channels=2)


def images(num: int = 6) -> Tensor:
    """Smooth coloured gradients, uint8."""
    rng = np.random.default_rng(0)
    grid = np.linspace(0, 1, 16)
    slopes = rng.uniform(-120, 120, size=(num, 3, 2, 1, 1))
    values = 128 + slopes[:, :, 0] * grid[:, None] + slopes[:, :, 1] * grid / 2
    return torch.from_numpy(values.clip(0, 255).astype(np.uint8))


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


def test_every_uint8_level_survives_the_way_to_float_and_back() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    floats = to_float(levels)
    assert floats.dtype == torch.float32
    assert (floats.min(), floats.max()) == (-1, 1)
    assert torch.equal(to_uint8(floats), levels)


def test_uint8_is_the_nearest_level_and_clamped() -> None:
    values = torch.tensor([-7.0, -1.0, 0.0, 0.3, 1.0, 9.0])
    expected = np.rint((values.double().clip(-1, 1).numpy() + 1) * 127.5)
    assert to_uint8(values).tolist() == expected.tolist()


def test_psnr_is_its_formula_and_infinite_for_equal_images() -> None:
    a = images(2)
    b = to_uint8(to_float(a) + 0.1)
    mse = np.mean((a.numpy().astype(float) - b.numpy().astype(float)) ** 2)
    assert psnr(a, b) == pytest.approx(20 * math.log10(255) - 10 * math.log10(mse))
    assert psnr(a, a) == math.inf


@pytest.mark.parametrize("block_channels", [(8,), (8, 16), (4, 8, 8), (1,), (1, 3)])
def test_each_resolution_but_the_last_halves_the_side(
    block_channels: tuple[int, ...],
) -> None:
    model = autoencoder(block_channels).eval()
    mean, std = encode(model, images(3))
    side = 16 // 2 ** (len(block_channels) - 1)
    assert mean.shape == std.shape == (3, 2, side, side)
    assert decode(model, mean).shape == (3, 3, 16, 16)


def test_encoding_is_the_posterior_without_scaling_factor() -> None:
    model = autoencoder().eval()
    mean, std = encode(model, images())
    moments = model.quant_conv(model.encoder(images() / 127.5 - 1)).detach()
    torch.testing.assert_close(mean, moments[:, :2])
    torch.testing.assert_close(std, moments[:, 2:].mul(0.5).exp())
    assert (std > 0).all()
    assert not mean.requires_grad


def test_decoding_is_the_decoder_of_raw_latents() -> None:
    model = autoencoder().eval()
    z = torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = model.decoder(model.post_quant_conv(z)).detach()
    torch.testing.assert_close(decode(model, z), expected)
    assert not decode(model, z).requires_grad


def test_fitting_lowers_the_loss_and_raises_the_psnr() -> None:
    model = autoencoder()

    def quality() -> float:
        reconstruction = decode(model, encode(model, images())[0])
        return psnr(images(), to_uint8(reconstruction))

    before = quality()
    losses = fit(model, num_steps=40)
    assert len(losses) == 40
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


def test_a_strong_divergence_pulls_the_posterior_to_a_standard_normal() -> None:
    def distance(kl_weight: float) -> float:
        model = autoencoder()
        fit(model, num_steps=25, kl_weight=kl_weight)
        mean, std = encode(model, images())
        return (mean**2 + (std - 1) ** 2).mean().item()

    assert distance(10.0) < 0.5 * distance(0.0)


def test_fitting_repeats_itself_and_another_seed_does_not() -> None:
    first, second, other = (
        fit(autoencoder(), num_steps=3, seed=seed) for seed in (0, 0, 1)
    )
    assert first == second != other


@pytest.mark.parametrize("num_steps", [1, 2, 9, 10, 11])
def test_short_fits_do_every_step(num_steps: int) -> None:
    assert len(fit(autoencoder((4,)), num_steps=num_steps)) == num_steps


def test_placing_changes_no_result() -> None:
    model = autoencoder().eval()
    mean, _ = encode(model, images())
    placed = place(model, torch.device("cpu"))
    weight = placed.encoder.conv_in.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(encode(placed, images())[0], mean, atol=1e-5, rtol=1e-4)


def test_every_pixel_level_comes_back_from_latents_that_are_the_pixels() -> None:
    model = PixelAutoencoder().eval()
    levels = torch.arange(256, dtype=torch.uint8).repeat(3).reshape(1, 3, 16, 16)
    mean, std = encode(model, levels)
    torch.testing.assert_close(mean, levels / 127.5 - 1)
    assert mean.dtype == std.dtype == torch.float32
    assert (std == 0).all() and std.shape == mean.shape
    assert torch.equal(to_uint8(decode(model, mean)), levels)


def test_pixels_outside_the_range_are_clamped() -> None:
    z = torch.tensor([-80.0, -1.0, 0.25, 1.0, 1.5]).reshape(1, 1, 1, 5)
    found = decode(PixelAutoencoder(), z).flatten()
    assert found.tolist() == [-1.0, -1.0, 0.25, 1.0, 1.0]


def test_pixels_have_no_weights_and_know_their_device() -> None:
    model = PixelAutoencoder()
    assert not list(model.parameters()) and not model.state_dict()
    assert model.device == torch.device("cpu")
    assert place(model, torch.device("meta")).device == torch.device("meta")
