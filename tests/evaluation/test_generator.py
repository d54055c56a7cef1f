"""From weights and a plan to images; latents stand for images where nothing is decoded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from describing import described
from torch import Tensor, nn

from conftest import SmokeResults
from lct_pipeline.core.metrics.frechet import FrechetReference, feature_statistics
from lct_pipeline.core.metrics.gradients import frechet_gradient
from lct_pipeline.core.sample_quality import label_batches, noise_batches
from lct_pipeline.errors import ParameterError
from lct_pipeline.evaluation.generator import (
    Generator,
    SamplingPlan,
    build_generator,
    deployed_plan,
    diffusion_plans,
    first_plan,
    latent_decoder,
    one_step,
    two_step_plans,
)
from lct_pipeline.models.autoencoder.coding import to_uint8
from lct_pipeline.models.description import ModelDescription
from lct_pipeline.parameters import DiffusionSampling, Sampling

NETWORK = described(dropout=0.5, boundary=0.3, sigma_min=0.3)
DIFFUSION = replace(NETWORK, model="diffusion", boundary=0.0, sigma_min=0.002)
CLASSES: dict[str, Any] = {"num_classes": 2, "class_counts": {"cat": 3, "dog": 1}}
CONDITIONAL = replace(NETWORK, **CLASSES)
ONE_STEP = SamplingPlan(1, (80.0,))


def sampling(**changes: Any) -> Sampling:
    values = {
        "intermediate_sigmas": (0.5, 2.0),
        "renoise": ("fresh", "same"),
        "guidance": 1.0,
        "diffusion": {"sampler": "heun", "num_evaluations": (3,)},
        "batch_size": 4,
        "grid_size": 3,
    }
    return Sampling.model_validate(values | changes)


def generator_of(
    network: ModelDescription,
    decode: Callable[[Tensor], Tensor] = lambda x: x,
    **changes: Any,
) -> Generator:
    """Return a generator whose network does something at random; its images are floats."""
    device = torch.device("cpu")
    made = Generator(network, decode, sampling(**changes), device, decode)
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


def test_coupled_noise_is_a_third_way() -> None:
    generator = generator_of(NETWORK)
    ways = [
        latents(generator, SamplingPlan(2, (80.0, 0.5), renoise), count=4)
        for renoise in ("fresh", "same", "coupled")
    ]
    assert not torch.equal(ways[0], ways[2])
    assert not torch.equal(ways[1], ways[2])


@pytest.mark.parametrize("num_evaluations", [3, 5, 17])
@pytest.mark.parametrize("solver", ["heun", "dpm_solver"])
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_a_diffusion_plan_takes_as_many_evaluations_as_it_says(
    num_evaluations: int, solver: str, guidance: float
) -> None:
    generator = generator_of(replace(DIFFUSION, **CLASSES), guidance=guidance)
    calls = network_calls(generator)
    found = latents(generator, SamplingPlan(num_evaluations, solver=solver), count=4)
    assert len(calls) == num_evaluations
    assert found.isfinite().all()


@pytest.mark.parametrize("solver", ["heun", "dpm_solver"])
def test_solvers_come_together_with_more_evaluations(solver: str) -> None:
    generator = generator_of(DIFFUSION)
    exact = latents(generator, SamplingPlan(401, solver="heun"))
    errors = [
        (latents(generator, SamplingPlan(n, solver=solver)) - exact).norm().item()
        for n in (9, 33)
    ]
    assert errors[1] < errors[0] / 2


@pytest.mark.parametrize("plan", [ONE_STEP, SamplingPlan(2, (80.0, 0.5), "same")])
def test_a_consistency_plan_takes_one_evaluation_a_level(plan: SamplingPlan) -> None:
    generator = generator_of(NETWORK)
    calls = network_calls(generator)
    latents(generator, plan, count=4)
    assert len(calls) == plan.num_evaluations


def test_noise_is_the_same_for_one_purpose_and_another_for_others() -> None:
    generator = generator_of(NETWORK)
    first = latents(generator)
    torch.manual_seed(9)
    assert torch.equal(latents(generator), first)
    assert torch.equal(latents(generator, count=4), first[:4])
    assert not torch.isclose(latents(generator, purpose="b"), first).any()
    assert not torch.isclose(latents(generator, seed=1), first).any()


def test_two_steps_start_from_the_noise_of_one() -> None:
    assert torch.equal(noise(6)[0], noise(6, num_evaluations=2)[0])


def test_dropout_is_off() -> None:
    assert not any(m.training for m in generator_of(NETWORK).model.modules())


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


def test_a_conditional_model_gets_classes_as_often_as_in_training() -> None:
    generator = generator_of(CONDITIONAL, batch_size=100)
    calls = network_calls(generator)
    latents(generator, count=2000)
    labels = torch.cat([labels for *_, labels in calls])
    shares = labels.bincount() / len(labels)
    deviation = (0.75 * 0.25 / 2000) ** 0.5
    assert shares.tolist() == pytest.approx([0.75, 0.25], abs=4 * deviation)


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
    decode = latent_decoder(decoder, torch.device("cpu"))
    x = torch.randn(5, *normalisation.tensors["mean"].shape)
    raw = normalisation.tensors["mean"] + x * normalisation.tensors["std"] / 0.5
    with torch.no_grad():
        images = autoencoder.model.decode(raw.float()).sample
    expected = (images.clamp(-1, 1) + 1) * 127.5
    assert decode(x).dtype == torch.uint8
    torch.testing.assert_close(decode(x).float(), expected, atol=0.51, rtol=0)


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


def test_what_is_clamped_has_no_gradient() -> None:
    generator = generator_of(NETWORK, lambda x: 2 + x.tanh())
    found = gradients(generator, random_by_feature(6))
    assert all((gradient == 0).all() for gradient in found.values())


def test_gradients_add_up_over_images_alone_and_not_over_calls() -> None:
    generator = generator_of(NETWORK, clamped)
    first = gradients(generator, random_by_feature(6))
    second = gradients(generator, random_by_feature(6))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_gradients_leave_the_network_as_it_was() -> None:
    generator = generator_of(NETWORK, clamped)
    before = latents(generator)
    gradients(generator, random_by_feature(6))
    parameters = list(generator.model.parameters())
    assert not any(p.requires_grad for p in parameters)
    assert all(p.grad is None for p in parameters)
    assert not any(m.training for m in generator.model.modules())
    assert torch.equal(latents(generator), before)


def test_images_of_a_generator_carry_no_graph() -> None:
    generator = generator_of(NETWORK, clamped)
    gradients(generator, random_by_feature(6))
    assert not latents(generator).requires_grad


def test_a_weight_without_influence_has_a_gradient_of_zero() -> None:
    generator = generator_of(NETWORK, clamped)
    generator.model.network.register_parameter("unused", nn.Parameter(torch.ones(3)))
    found = gradients(generator, random_by_feature(6))
    assert found["unused"].tolist() == [0, 0, 0]


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


def test_the_plan_of_one_step_starts_at_the_largest_level() -> None:
    assert one_step(NETWORK) == SamplingPlan(1, (80.0,))


def test_two_step_plans_are_each_level_with_each_kind_of_noise() -> None:
    assert two_step_plans(NETWORK, sampling()) == [
        SamplingPlan(2, (80.0, 0.5), "fresh"),
        SamplingPlan(2, (80.0, 2.0), "fresh"),
        SamplingPlan(2, (80.0, 0.5), "same"),
        SamplingPlan(2, (80.0, 2.0), "same"),
    ]


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({}, [0.3, 1.0, 79.0]),
        ({"lowest_level": 1.0}, [1.0, 79.0]),  # truncated at 1
        ({"sigma_max": 1.0}, [0.3]),
        ({"lowest_level": 79.5}, []),
    ],
)
def test_levels_that_the_model_was_not_trained_on_are_left_out(
    change: dict[str, float], kept: list[float]
) -> None:
    given = sampling(
        intermediate_sigmas=(0.2, 0.3, 1.0, 79.0, 80.0, 90.0), renoise=["same"]
    )
    plans = two_step_plans(replace(NETWORK, **change), given)
    assert [plan.sigmas[1] for plan in plans] == kept


def test_diffusion_plans_go_by_evaluations_fewest_first() -> None:
    given = sampling(diffusion={"sampler": "heun", "num_evaluations": (9, 3, 9, 5)})
    plans = diffusion_plans(given)
    assert plans == [SamplingPlan(n, solver="heun") for n in (3, 5, 9)]
    assert first_plan(DIFFUSION, given) == plans[0]
    assert first_plan(NETWORK, given) == one_step(NETWORK)


@pytest.mark.parametrize("number", [1, 2, 8])
def test_heun_has_no_plan_for_these_numbers(number: int) -> None:
    with pytest.raises(ValueError, match="odd numbers from 3 on"):
        DiffusionSampling(sampler="heun", num_evaluations=(5, number))


def deployed(network: ModelDescription, nfe: int | None, second: float) -> SamplingPlan:
    return deployed_plan(network, sampling(), nfe, second, "same")


def test_a_model_is_deployed_with_the_fewest_evaluations_where_none_are_given() -> None:
    assert deployed(NETWORK, None, 0.5) == one_step(NETWORK)
    assert deployed(DIFFUSION, None, 0.5) == SamplingPlan(3, solver="heun")


def test_a_consistency_model_is_deployed_with_one_or_two_evaluations() -> None:
    assert deployed(NETWORK, 1, 0.5) == one_step(NETWORK)
    assert deployed(NETWORK, 2, 0.5) == SamplingPlan(2, (80.0, 0.5), "same")


@pytest.mark.parametrize("nfe", [3, 8])
def test_a_consistency_model_is_not_deployed_with_more(nfe: int) -> None:
    with pytest.raises(ParameterError, match=f"{nfe} evaluations.*takes one or two"):
        deployed(NETWORK, nfe, 0.5)


@pytest.mark.parametrize("second", [0.3, 79.9])
def test_a_second_level_may_lie_anywhere_in_the_range_of_training(
    second: float,
) -> None:
    assert deployed(NETWORK, 2, second).sigmas == (80.0, second)


@pytest.mark.parametrize(
    ("change", "second"),
    [({}, 0.29), ({}, 80.0), ({}, 90.0), ({"lowest_level": 1.0}, 0.5)],
)
def test_a_second_level_that_was_not_trained_is_refused(
    change: dict[str, float], second: float
) -> None:
    with pytest.raises(ParameterError, match=f"the second at {second}: "):
        deployed(replace(NETWORK, **change), 2, second)


def test_one_evaluation_asks_for_no_second_level() -> None:
    assert deployed(NETWORK, 1, 1000.0) == one_step(NETWORK)


@pytest.mark.parametrize("nfe", [3, 17])
def test_a_diffusion_model_is_deployed_with_its_solver(nfe: int) -> None:
    assert deployed(DIFFUSION, nfe, 0.5) == SamplingPlan(nfe, solver="heun")


@pytest.mark.parametrize("nfe", [1, 2, 8])
def test_a_number_that_heun_does_not_have_is_refused(nfe: int) -> None:
    with pytest.raises(ParameterError, match=rf"nfe={nfe}: .*odd number from 3 on"):
        deployed(DIFFUSION, nfe, 0.5)


@pytest.mark.parametrize("nfe", [1, 2, 8])
def test_dpm_solver_takes_any_number(nfe: int) -> None:
    given = sampling(diffusion={"sampler": "dpm_solver", "num_evaluations": (5,)})
    plan = deployed_plan(DIFFUSION, given, nfe, 0.5, "same")
    assert plan == SamplingPlan(nfe, solver="dpm_solver")
