"""Arguments of an exported model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from exporting import MODELS
from torch import Tensor


def test_class_names_numbers_and_lists_are_the_same() -> None:
    pipeline = MODELS["classes"].pipeline()

    def images(labels: Any, **more: Any) -> Tensor:
        noise = torch.Generator().manual_seed(0)
        made = pipeline(
            class_labels=labels, generator=noise, output_type="uint8", **more
        )
        return made.images

    cats = images("cat", batch_size=2)
    assert torch.equal(cats, images(2, batch_size=2))
    assert torch.equal(cats, images(["cat", 2]))
    assert torch.equal(cats, images(torch.tensor([2, 2])))
    assert torch.equal(images("10", batch_size=2), images(1, batch_size=2))
    assert torch.equal(images("0", batch_size=2), images(0, batch_size=2))
    assert not torch.equal(cats, images(1, batch_size=2))
    assert not torch.equal(cats, images("cat", batch_size=2, guidance_scale=1.0))


def test_classes_are_drawn_as_often_as_in_training() -> None:
    pipeline = MODELS["classes"].pipeline()
    drawn = pipeline._drawn_labels(6000, torch.Generator().manual_seed(0))
    shares = drawn.bincount() / 6000
    assert torch.allclose(shares, torch.tensor([1, 3, 2]) / 6, atol=0.02)


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        ("unet", {"num_inference_steps": 3}, r"1 and 2 steps, not for 3"),
        ("unet", {"sigmas": [80.0, 90.0]}, "they decrease from 80.0"),
        ("unet", {"sigmas": [80.0, 1.0], "num_inference_steps": 3}, "not those of 3"),
        ("unet", {"class_labels": 1}, "no classes"),
        ("unet", {"guidance_scale": 2.0}, "no classes"),
        ("unet", {"output_type": "jpeg"}, "give pil, uint8"),
        ("heun", {"num_inference_steps": 4}, "odd number from 3 on"),
        ("heun", {"sigmas": [80.0]}, "consistency models alone"),
        (
            "classes",
            {"class_labels": "dog"},
            "dog is no class; there are 3: 2, 10, cat",
        ),
        ("classes", {"class_labels": 3}, "3 is no class"),
        ("classes", {"class_labels": [0, 1], "batch_size": 3}, "do not go together"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(
    model: str, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        MODELS[model].pipeline()(**arguments)


def test_other_levels_take_the_noise_that_the_run_chose() -> None:
    scheduler = MODELS["unet"].pipeline().scheduler
    first = {**scheduler.config.plans[0], "num_evaluations": 1, "sigmas": [80.0]}
    for renoise in ("fresh", "same"):
        second = {**first, "num_evaluations": 2, "sigmas": [80.0, 1.0]}
        plans = [first, {**second, "renoise": renoise}]
        chosen = type(scheduler).from_config({**scheduler.config, "plans": plans})
        assert chosen.plan(None, [80.0, 0.5]).renoise == renoise


def test_other_levels_may_be_given() -> None:
    pipeline, noise = MODELS["unet"].pipeline(), torch.randn(3, 1, 4, 8, 8)
    own = pipeline(sigmas=[80.0, 0.5], latents=noise, output_type="pt").images
    is_fresh = pipeline.scheduler.config.plans[-1]["renoise"] == "fresh"
    new = noise[[0, int(is_fresh)]]
    model = MODELS["unet"].generator().model
    with torch.no_grad():
        first = model(80 * new[0], torch.tensor([80.0]))
        x_t = first + (0.5**2 - 0.002**2) ** 0.5 * new[1]
        x = model(x_t, torch.tensor([0.5]))
        z = MODELS["unet"].normalisation.denormalise(x)
        images = MODELS["unet"].autoencoder.decode(z).sample.clamp(-1, 1)
    assert torch.allclose(own, (images + 1) / 2, atol=1e-4)


def test_every_form_of_output_is_the_same_image() -> None:
    pipeline, noise = MODELS["unet"].pipeline(), torch.randn(2, 4, 8, 8)

    def images(form: str) -> Any:
        return pipeline(latents=noise, output_type=form, return_dict=False)[0]

    levels = images("uint8")
    assert levels.shape == (2, 3, 16, 16)
    assert torch.equal((images("pt") * 255).round().byte(), levels)
    assert images("np").shape == (2, 16, 16, 3)
    assert images("pil")[1].getpixel((3, 5)) == tuple(levels[1, :, 5, 3].tolist())
    assert images("latent").shape == (2, 4, 8, 8)


def test_weights_of_half_the_size_make_about_the_same_image() -> None:
    noise = torch.randn(2, 4, 8, 8)
    pipeline = MODELS["unet"].pipeline()
    exact = pipeline(latents=noise, output_type="pt").images
    pipeline.to(torch.bfloat16)
    rough = pipeline(latents=noise, output_type="pt").images
    assert 0 < (rough - exact).abs().mean() < 0.05
