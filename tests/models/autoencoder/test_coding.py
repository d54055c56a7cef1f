from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from small_autoencoders import autoencoder, images
from torch import Tensor

from lct_pipeline.models.autoencoder.coding import (
    Autoencoder,
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


def test_squared_errors_of_parts_add_up_without_overflow() -> None:
    black, white = (
        torch.full((2, 3, 256, 256), v, dtype=torch.uint8) for v in (0, 255)
    )
    whole = squared_error(black, white)
    assert whole == 255**2 * black.numel() > 2**31
    assert 2 * squared_error(black[:1], white[:1]) == whole
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


def tiny() -> Autoencoder:
    from diffusers import AutoencoderTiny

    torch.manual_seed(0)
    return AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1),
        latent_channels=3,
    ).eval()


def deep_compression() -> Autoencoder:
    from diffusers import AutoencoderDC

    torch.manual_seed(0)
    levels: dict[str, Any] = {
        "block_types": "ResBlock",
        "block_out_channels": (8, 16),
        "layers_per_block": (1, 1),
        "qkv_multiscales": ((), ()),
    }
    sides = {f"{s}_{k}": v for s in ("encoder", "decoder") for k, v in levels.items()}
    return AutoencoderDC(latent_channels=4, attention_head_dim=4, **sides).eval()


MAKERS = [autoencoder, tiny, deep_compression, PixelAutoencoder]


def output(model: Autoencoder, x: Tensor) -> Tensor:
    """Return what the encoder of diffusers gives for float images: the latents' mean."""
    encoded = model.encode(x, return_dict=False)[0]
    return encoded if isinstance(encoded, Tensor) else encoded.mean


@pytest.mark.parametrize(
    ("make", "shape"), [(tiny, (3, 4, 4)), (deep_compression, (4, 8, 8))]
)
def test_deterministic_encoders_are_called_with_floats_and_have_no_spread(
    make: Callable[[], Any], shape: tuple[int, ...]
) -> None:
    model, given = make(), images(3)
    mean, std = encode(model, given)
    with torch.no_grad():
        expected = output(model, given.float() / 127.5 - 1)
        decoded = model.decode(expected, return_dict=False)[0]
    assert mean.shape == std.shape == (3, *shape)
    torch.testing.assert_close(mean, expected, atol=1e-5, rtol=1e-4)
    assert (std == 0).all()
    torch.testing.assert_close(decode(model, mean), decoded, atol=1e-5, rtol=1e-4)
    assert decoded.shape == given.shape


def test_images_of_a_tiny_autoencoder_are_between_minus_1_and_1() -> None:
    model = tiny()
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
    is_changed = any(
        not torch.equal(p, before[n]) for n, p in model.state_dict().items()
    )
    assert not is_changed
    if before:
        assert not torch.equal(exact[0], found[0])


def test_latents_in_half_precision_are_decoded_in_the_weights_own() -> None:
    model = autoencoder().eval()
    z = torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(decode(model, z.half()), decode(model, z.half().float()))


def test_a_processor_encodes_in_float32() -> None:
    assert automatic_precision(torch.device("cpu")) == "float32"
