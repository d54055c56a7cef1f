"""Coding of images, and fitting of a small autoencoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from small_encoding import MAKERS, autoencoder, images, tiny
from torch import Tensor

from lct_pipeline.errors import MeasureError
from lct_pipeline.models.autoencoder import (
    PixelAutoencoder,
    TrainedKind,
    automatic_precision,
    copy_for_encoding,
    decode,
    encode,
    fit_autoencoder,
    place,
    side_divisor,
    to_float,
    to_uint8,
)
from lct_pipeline.models.reconstruction import psnr, squared_error


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


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("truncated", [False, True])
def test_what_is_not_finite_becomes_no_byte(value: float, truncated: bool) -> None:
    images = torch.zeros(2, 3, 4, 4).index_fill(1, torch.tensor(1), value)
    with pytest.raises(MeasureError, match=r"the decoder gives.*not finite.*float32"):
        to_uint8(images, "the decoder", truncated=truncated)


KL_CHANNELS = [(8,), (8, 16), (4, 8, 8), (1,), (1, 3)]
DC_CHANNELS = [(8,), (8, 16), (4, 8, 8), (4, 16, 64)]


@pytest.mark.parametrize(
    ("kind", "block_channels"),
    [
        *(("AutoencoderKL", channels) for channels in KL_CHANNELS),
        *(("AutoencoderDC", channels) for channels in DC_CHANNELS),
    ],
)
def test_each_resolution_but_the_last_halves_the_side(
    kind: TrainedKind, block_channels: tuple[int, ...]
) -> None:
    model = autoencoder(block_channels, kind=kind).eval()
    mean, std = encode(model, images(3))
    side = 16 // 2 ** (len(block_channels) - 1)
    assert mean.shape == std.shape == (3, 2, side, side)
    assert decode(model, mean).shape == (3, 3, 16, 16)


def test_coding_is_that_of_the_network_without_scaling_factor() -> None:
    model = autoencoder().eval()
    mean, std = encode(model, images())
    moments = model.quant_conv(model.encoder(images() / 127.5 - 1)).detach()
    torch.testing.assert_close(mean, moments[:, :2])
    torch.testing.assert_close(std, moments[:, 2:].mul(0.5).exp())
    assert (std > 0).all()
    z = torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = model.decoder(model.post_quant_conv(z)).detach()
    torch.testing.assert_close(decode(model, z), expected)
    assert torch.equal(decode(model, z.half()), decode(model, z.half().float()))
    assert not mean.requires_grad and not decode(model, z).requires_grad


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
    outside = torch.tensor([-80.0, -1.0, 0.25, 1.0, 1.5]).reshape(1, 1, 1, 5)
    assert decode(model, outside).flatten().tolist() == [-1.0, -1.0, 0.25, 1.0, 1.0]


def test_pixels_have_no_weights_and_know_their_device() -> None:
    model = PixelAutoencoder()
    assert not list(model.parameters()) and not model.state_dict()
    assert model.device == torch.device("cpu")
    assert place(model, torch.device("meta")).device == torch.device("meta")


def test_images_of_a_tiny_autoencoder_are_between_minus_1_and_1() -> None:
    model = tiny().eval()
    torch.nn.init.zeros_(model.decoder.layers[-1].weight)
    for level in (0.0, 1.0):  # its own decoder is of images between 0 and 1
        torch.nn.init.constant_(model.decoder.layers[-1].bias, level)
        found = decode(model, torch.zeros(1, 3, 4, 4))
        assert (found == 2 * level - 1).all()


@pytest.mark.parametrize("make", MAKERS)
def test_decoding_can_be_differentiated_by_the_latents(make: Callable[[], Any]) -> None:
    model = make().requires_grad_(False)
    z = encode(model, images(1))[0].clamp(-0.9, 0.9).requires_grad_()
    model.decode(z).sample.square().sum().backward()
    assert z.grad is not None and (z.grad != 0).any()
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("make", MAKERS)
def test_the_side_is_divided_as_often_as_it_is_said(make: Callable[[], Any]) -> None:
    model = make()
    mean, _ = encode(model.eval(), images(1))
    assert 16 / mean.shape[-1] == side_divisor(model)


@pytest.mark.parametrize("make", MAKERS)
def test_half_precision_gives_float32_near_the_exact_posterior(
    make: Callable[[], Any],
) -> None:
    model = make().eval()
    before = {name: p.clone() for name, p in model.state_dict().items()}
    copy = copy_for_encoding(model, torch.device("cpu"), "bfloat16", compiled=False)
    exact, found = encode(model, images()), encode(copy, images())
    for a, b in zip(exact, found, strict=True):
        assert b.dtype == torch.float32
        error = (a - b).square().mean().sqrt()
        assert error <= 0.02 * a.square().mean().sqrt()
    assert all(torch.equal(p, before[n]) for n, p in model.state_dict().items())
    if before:
        assert not torch.equal(exact[0], found[0])


def test_a_processor_encodes_in_float32() -> None:
    assert automatic_precision(torch.device("cpu")) == "float32"


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


def test_an_autoencoder_without_noise_is_fitted_with_a_constant_one() -> None:
    model = autoencoder(kind="AutoencoderDC")
    encoded: list[Tensor] = []
    decoded: list[Tensor] = []
    model.encoder.register_forward_hook(lambda *given: encoded.append(given[2]))
    model.decoder.register_forward_pre_hook(lambda _, given: decoded.append(given[0]))
    fit(model, num_steps=2)
    for mean, z in zip(encoded, decoded, strict=True):  # 512 values
        assert (z - mean).std().item() == pytest.approx(0.1, rel=5 / 1024**0.5)
    assert not encode(model.eval(), images())[1].any()


def test_a_deep_compression_autoencoder_works_at_half_the_side_and_below() -> None:
    model = autoencoder((8, 16, 16), kind="AutoencoderDC")
    sides = set()
    for layer in model.decoder.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(lambda *given: sides.add(given[2].shape[-1]))
    decode(model.eval(), torch.zeros(1, 2, 4, 4))
    assert max(sides) == 8  # of images of 16 pixels


def test_fitting_repeats_itself_and_another_seed_does_not() -> None:
    first, second, other = (
        fit(autoencoder(), num_steps=3, seed=seed) for seed in (0, 0, 1)
    )
    assert first == second != other


@pytest.mark.parametrize("num_steps", [1, 2, 9, 10, 11])
def test_short_fits_do_every_step(num_steps: int) -> None:
    assert len(fit(autoencoder((4,)), num_steps=num_steps)) == num_steps
