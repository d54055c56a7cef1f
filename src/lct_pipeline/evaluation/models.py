"""What is evaluated: trained models, and controls without a model, as streams of images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from lct_pipeline.core.sample_quality import noise_batches
from lct_pipeline.core.sampling_plans import SamplingPlan
from lct_pipeline.datasets.model_set import ModelSet
from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.evaluation.generator import Generator
from lct_pipeline.models.digests import tensors_digest

NO_PLAN = {"nfe": 0, "intermediate_sigma": None, "renoise": None, "solver": None}


@dataclass(frozen=True)
class Subject:
    """Something that makes images: what a row says about it, and batches for a ``seed``.

    Subjects of the same ``weights``, a digest, make the same images with the same plan.
    """

    about: dict[str, Any]
    num_images: int
    batches: Callable[..., Iterator[Tensor]]
    depends_on_seed: bool = True
    weights: str = ""

    @property
    def key(self) -> tuple[Any, ...]:
        """Return what the images depend on, but for the seed."""
        plan = (value for name, value in self.about.items() if name != "model")
        return (self.weights or self.about["model"], *plan)


def plans_of(models: ModelSet, name: str) -> list[SamplingPlan]:
    """Return the plans that were selected for a model."""
    return plans_from(models.plans[name])


def plans_from(said: list[dict[str, Any]]) -> list[SamplingPlan]:
    """Return plans that JSON says."""
    return [SamplingPlan(**{**p, "sigmas": tuple(p["sigmas"])}) for p in said]


def trained_models(
    weights: Iterable[tuple[str, Mapping[str, Tensor]]],
    plans: Mapping[str, list[SamplingPlan]],
    generator: Generator,
    count: int,
    purpose: str,
) -> Iterator[Subject]:
    """Yield each model with each of its plans, the generator having its weights until the next."""
    for name, tensors in weights:
        generator.load(tensors)
        digest = tensors_digest(tensors)
        for plan in plans[name]:
            about = {"model": name, **_plan_columns(plan)}
            batches = partial(generator.images, count, plan, purpose=purpose)
            yield Subject(about, count, batches, weights=digest)


def _plan_columns(plan: SamplingPlan) -> dict[str, Any]:
    """Return what a row says about how a model generated."""
    second = plan.sigmas[1] if len(plan.sigmas) > 1 else None
    return {
        "nfe": plan.num_evaluations,
        "intermediate_sigma": second,
        "renoise": None if second is None else plan.renoise,
        "solver": plan.solver,
    }


def decoded_noise(generator: Generator, count: int) -> Subject:
    """Return images of noise with the latents' mean and standard deviation: no model at all."""
    about = {"model": "gaussian_latents", **NO_PLAN}
    return Subject(about, count, partial(gaussian_images, generator, count))


def gaussian_images(generator: Generator, count: int, seed: int) -> Iterator[Tensor]:
    """Yield decoded noise."""
    for noise in noise_batches(
        count,
        generator.network.sample_shape,
        num_evaluations=1,
        batch_size=generator.sampling.batch_size,
        seed=seed,
        purpose="gaussian",
    ):
        x = generator.model.sigma_data * noise[0].to(generator.device)
        yield generator.decode(x)


def reconstructions(latents: ShardStore, indices: Any, generator: Generator) -> Subject:
    """Return test images through the autoencoder: no model in its latents can be better."""

    def batches(seed: int) -> Iterator[Tensor]:
        for z in latents.batches("mean", generator.sampling.batch_size, indices):
            yield generator.decode.of_raw(z.to(generator.device).float())

    about = {"model": "reconstructed_test_images", **NO_PLAN}
    return Subject(about, len(indices), batches, depends_on_seed=False)
