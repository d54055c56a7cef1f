"""From weights and a plan to images; latents stand for images where nothing is decoded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from describing import described, sampling
from torch import Tensor, nn

from conftest import SmokeResults
from lct_pipeline.core.metrics.frechet import (
    FrechetReference,
    feature_statistics,
    frechet_gradient,
)
from lct_pipeline.core.sample_quality import label_batches, noise_batches
from lct_pipeline.datasets.autoencoder import StoredAutoencoder
from lct_pipeline.datasets.decoder import Decoder
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import MeasureError
from lct_pipeline.evaluation.generator import (
    Generator,
    LatentDecoder,
    SamplingPlan,
    build_generator,
)
from lct_pipeline.models.autoencoder import PixelAutoencoder, to_uint8
from lct_pipeline.models.denoiser import ModelDescription

NETWORK = described(dropout=0.5, boundary=0.3, sigma_min=0.3)
DIFFUSION = replace(NETWORK, model="diffusion", boundary=0.0, sigma_min=0.002)
CLASSES: dict[str, Any] = {"num_classes": 2, "class_counts": {"cat": 3, "dog": 1}}
CONDITIONAL = replace(NETWORK, **CLASSES)
ONE_STEP = SamplingPlan(1, (80.0,))


class Decoding:
    """Stands for the decoder: latents to float images by a function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.differentiable = function

    def __call__(self, x: Tensor) -> Tensor:
        return self.differentiable(x)


def generator_of(
    network: ModelDescription,
    decode: Callable[[Tensor], Tensor] = lambda x: x,
    **changes: Any,
) -> Generator:
    """Return a generator whose network does something at random; its images are floats."""
    decoding: Any = Decoding(decode)
    made = Generator(network, decoding, sampling(**changes), torch.device("cpu"))
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in made.model.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=random))
    return made


def latents(
    generator: Generator,
    plan: SamplingPlan = ONE_STEP,
    *,
    count: int = 6,
    seed: int = 0,
    purpose: str = "a",
) -> Tensor:
    return torch.cat(list(generator.images(count, plan, seed=seed, purpose=purpose)))


def noise(count: int, num_evaluations: int = 1, purpose: str = "a") -> Tensor:
    """Return the noise that a generator takes, ``(S, count, *shape)``."""
    batches = noise_batches(
        count,
        (2, 4, 4),
        num_evaluations=num_evaluations,
        batch_size=4,
        seed=0,
        purpose=purpose,
    )
    return torch.cat(list(batches), dim=1)


@torch.no_grad()
def denoised(
    generator: Generator, x_t: Tensor, sigma: float, labels: Tensor | None = None
) -> Tensor:
    return generator.model(x_t, torch.full((len(x_t),), sigma).double(), labels)


FEATURE_WEIGHTS = torch.randn(32, 5, generator=torch.Generator().manual_seed(3))


def clamped(x: Tensor) -> Tensor:
    """Return images of latents, of which a share lies at -1 and 1."""
    return (2 * x).clamp(-1, 1)


def features(images: Tensor) -> Tensor:
    """Return features, ``(B, 5)``, of float images."""
    return (images.flatten(1) @ FEATURE_WEIGHTS).tanh()


def random_by_feature(count: int) -> Tensor:
    return torch.randn(count, 5, generator=torch.Generator().manual_seed(4))


def gradients(generator: Generator, by_feature: Tensor) -> dict[str, Tensor]:
    return generator.gradients(by_feature, features, seed=0, purpose="a")


def network_calls(generator: Generator) -> list[tuple[Any, ...]]:
    """Return a list that grows by the arguments of each evaluation of the network."""
    calls: list[tuple[Any, ...]] = []
    generator.model.network.register_forward_hook(
        lambda module, arguments, output: calls.append(arguments)
    )
    return calls


def test_one_step_denoises_pure_noise() -> None:
    generator = generator_of(NETWORK)
    expected = denoised(generator, 80 * noise(6)[0], 80.0)
    torch.testing.assert_close(latents(generator), expected)


@pytest.mark.parametrize(("renoise", "which"), [("fresh", 1), ("same", 0)])
def test_two_steps_renoise_above_the_boundary(renoise: Any, which: int) -> None:
    generator = generator_of(NETWORK)
    eps = noise(6, num_evaluations=2)
    x = denoised(generator, 80 * eps[0], 80.0)
    x_t = x + 0.4 * eps[which]  # sqrt(0.5^2 - 0.3^2) = 0.4
    found = latents(generator, SamplingPlan(2, (80.0, 0.5), renoise))
    torch.testing.assert_close(found, denoised(generator, x_t, 0.5))


@pytest.mark.parametrize(
    "plan",
    [
        ONE_STEP,
        SamplingPlan(2, (80.0, 0.5), "coupled"),
        *(SamplingPlan(n, solver="heun") for n in (3, 17)),
        *(SamplingPlan(n, solver="dpm_solver") for n in (3, 5)),
    ],
    ids=str,
)
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_a_plan_takes_as_many_evaluations_as_it_says(
    plan: SamplingPlan, guidance: float
) -> None:
    network = DIFFUSION if plan.solver else NETWORK
    generator = generator_of(replace(network, **CLASSES), guidance=guidance)
    calls = network_calls(generator)
    assert latents(generator, plan, count=4).isfinite().all()
    assert len(calls) == plan.num_evaluations


def test_noise_is_the_same_for_one_purpose_and_another_for_others() -> None:
    generator = generator_of(NETWORK)
    first = latents(generator)
    torch.manual_seed(9)
    assert torch.equal(latents(generator), first)
    assert torch.equal(latents(generator, count=4), first[:4])
    assert not torch.isclose(latents(generator, purpose="b"), first).any()
    assert not torch.isclose(latents(generator, seed=1), first).any()


def test_loaded_weights_are_those_that_generate() -> None:
    one, other = generator_of(NETWORK), generator_of(NETWORK)
    weights = {k: 2 * v for k, v in one.model.network.state_dict().items()}
    other.load(weights)
    assert not torch.equal(latents(other), latents(one))
    one.load(weights)
    assert torch.equal(latents(other), latents(one))


def test_a_model_without_classes_gets_no_labels() -> None:
    generator = generator_of(NETWORK)
    calls = network_calls(generator)
    latents(generator)
    assert [labels for *_, labels in calls] == [None, None]


def test_guidance_goes_beyond_the_class_away_from_no_class() -> None:
    plain, guided = (
        generator_of(CONDITIONAL),
        generator_of(CONDITIONAL, guidance=3.0),
    )
    x_t = 80 * noise(4)[0]
    (labels,) = label_batches(4, [3, 1], batch_size=4, seed=0, purpose="a")
    D_label = denoised(plain, x_t, 80.0, labels)
    D_null = denoised(plain, x_t, 80.0, torch.full((4,), 2))
    assert not torch.isclose(D_label, D_null).all()
    torch.testing.assert_close(latents(plain, count=4), D_label)
    expected = D_null + 3 * (D_label - D_null)
    torch.testing.assert_close(latents(guided, count=4), expected)


def test_a_grid_is_a_square_of_images() -> None:
    generator = generator_of(NETWORK)
    weights = generator.model.network.state_dict()
    found = generator.grid(weights, ONE_STEP, seed=0)
    assert torch.equal(found, latents(generator, count=9, purpose="grid"))


def test_the_decoder_undoes_the_normalisation(results: SmokeResults) -> None:
    decoder = results.catalog.load("decoder")
    autoencoder, normalisation = decoder.autoencoder, decoder.normalisation
    decode = LatentDecoder(decoder, torch.device("cpu"))
    x = torch.randn(5, *normalisation.tensors["mean"].shape)
    raw = normalisation.tensors["mean"] + x * normalisation.tensors["std"] / 0.5
    with torch.no_grad():
        images = autoencoder.model.decode(raw.float()).sample
    expected = (images.clamp(-1, 1) + 1) * 127.5
    assert decode(x).dtype == torch.uint8
    torch.testing.assert_close(decode(x).float(), expected, atol=0.51, rtol=0)


def test_what_is_not_finite_becomes_no_picture() -> None:
    known = {"mean": torch.zeros(3, 2, 2), "std": torch.ones(3, 2, 2)}
    stored = StoredAutoencoder(PixelAutoencoder().eval(), "none")
    decoder = Decoder(stored, TensorFile(known, {"sigma_data": 0.5}))
    decode = LatentDecoder(decoder, torch.device("cpu"))
    assert decode(torch.zeros(1, 3, 2, 2)).dtype == torch.uint8
    for value in (torch.nan, torch.inf):
        with pytest.raises(MeasureError, match="the network gives latents"):
            decode(torch.full((1, 3, 2, 2), value))
    with pytest.raises(MeasureError, match=r"PixelAutoencoder of torch\.float32"):
        decode.of_raw(torch.full((1, 3, 2, 2), torch.nan))


@pytest.mark.parametrize(
    ("network", "guidance"),
    [(NETWORK, 1.0), (CONDITIONAL, 1.0), (CONDITIONAL, 3.0)],
    ids=["unconditional", "conditional", "guided"],
)
def test_gradients_by_batches_are_those_of_all_images_at_once(
    network: ModelDescription, guidance: float
) -> None:
    generator = generator_of(network, clamped, guidance=guidance)  # batches of 4 and 2
    by_feature = random_by_feature(6)
    found = gradients(generator, by_feature)
    generator.model.requires_grad_(True)
    x_t, t = 80 * noise(6)[0], torch.full((6,), 80.0).double()
    if network.num_classes:
        batches = label_batches(6, [3, 1], batch_size=4, seed=0, purpose="a")
        labels = torch.cat([batch for batch in batches if batch is not None])
        D_null = generator.model(x_t, t, torch.full((6,), 2))
        x = D_null + guidance * (generator.model(x_t, t, labels) - D_null)
    else:
        x = generator.model(x_t, t)
    loss = (features(clamped(x)) * by_feature).sum()
    weights = dict(generator.model.network.named_parameters())
    expected = torch.autograd.grad(loss, list(weights.values()))
    assert found.keys() == weights.keys()
    for name, gradient in zip(weights, expected, strict=True):
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)


def test_gradients_are_the_slope_of_a_distance_of_the_images() -> None:
    generator = generator_of(NETWORK, clamped)
    random = torch.Generator().manual_seed(5)
    real = FrechetReference(
        feature_statistics(torch.randn(40, 5, generator=random) / 2)
    )
    by_feature = frechet_gradient(real, features(latents(generator, count=20)))
    found = gradients(generator, by_feature)
    weights = generator.model.network.state_dict()
    direction = {
        name: torch.randn(weight.shape, generator=random) * weight.std(correction=0)
        for name, weight in weights.items()
    }

    def distance(step: float) -> float:
        generator.load({n: w + step * direction[n] for n, w in weights.items()})
        return real.distance_of_features(features(latents(generator, count=20)))

    weights = {name: weight.clone() for name, weight in weights.items()}
    expected = (distance(1e-3) - distance(-1e-3)) / 2e-3
    slope = sum((found[name] * direction[name]).sum().item() for name in found)
    assert abs(slope) > 0.1
    assert slope == pytest.approx(expected, rel=1e-2)


def test_what_is_clamped_or_without_influence_has_a_gradient_of_zero() -> None:
    found = gradients(
        generator_of(NETWORK, lambda x: 2 + x.tanh()), random_by_feature(6)
    )
    assert all((gradient == 0).all() for gradient in found.values())
    generator = generator_of(NETWORK, clamped)
    generator.model.network.register_parameter("unused", nn.Parameter(torch.ones(3)))
    found = gradients(generator, random_by_feature(6))
    assert found["unused"].tolist() == [0, 0, 0]


def test_gradients_leave_the_network_as_it_was() -> None:
    generator = generator_of(NETWORK, clamped)
    before = latents(generator)
    first, second = (gradients(generator, random_by_feature(6)) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    parameters = list(generator.model.parameters())
    assert not any(p.requires_grad or p.grad is not None for p in parameters)
    assert not any(m.training for m in generator.model.modules())  # nor has dropout
    after = latents(generator)
    assert torch.equal(after, before) and not after.requires_grad


def test_gradients_go_through_the_images_that_are_generated_before_their_rounding(
    results: SmokeResults,
) -> None:
    load, parameters = results.catalog.load, results.parameters
    best = load("best_ema")
    generator = build_generator(
        ModelDescription.from_json(best.metadata["network"]),
        load("decoder"),
        parameters.sampling,
        parameters.runtime,
    )
    generator.load(best.tensors)
    seen = []

    def watched(images: Tensor) -> Tensor:
        seen.append(images.detach())
        return images.mean((2, 3))

    found = generator.gradients(torch.ones(80, 3), watched, seed=0, purpose="a")
    batches = generator.images(80, ONE_STEP, seed=0, purpose="a")
    assert torch.equal(to_uint8(torch.cat(seen)), torch.cat(list(batches)))
    assert any((gradient != 0).any() for gradient in found.values())
