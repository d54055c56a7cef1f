from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from small_autoencoders import MAKERS, autoencoder, images, tiny

from lct_pipeline.models.autoencoder.coding import (
    PixelAutoencoder,
    automatic_precision,
    copy_for_encoding,
    decode,
    encode,
    place,
    psnr,
    side_divisor,
    squared_error,
    to_float,
    to_uint8,
)


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
    assert squared_error(a, b) == pytest.approx(mse * a.numel())
    found = psnr(squared_error(a, b), a.numel())
    assert found == pytest.approx(20 * math.log10(255) - 10 * math.log10(mse))
    assert psnr(squared_error(a, a), a.numel()) == math.inf


def test_squared_errors_add_up_without_overflow() -> None:
    black, white = (
        torch.full((2, 3, 256, 256), v, dtype=torch.uint8) for v in (0, 255)
    )
    whole = squared_error(black, white)
    assert whole == 255**2 * black.numel() > 2**31
    assert psnr(whole, black.numel()) == 0


@pytest.mark.parametrize("block_channels", [(8,), (8, 16), (4, 8, 8), (1,), (1, 3)])
def test_each_resolution_but_the_last_halves_the_side(
    block_channels: tuple[int, ...],
) -> None:
    model = autoencoder(block_channels).eval()
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
