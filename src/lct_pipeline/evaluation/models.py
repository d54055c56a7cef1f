"""What is evaluated: trained models, and controls without a model, as streams of images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from pandas import DataFrame
from torch import Tensor

from lct_pipeline.core.sample_quality import noise_batches
from lct_pipeline.core.sampling_plans import SamplingPlan
from lct_pipeline.datasets.decoder import Decoder
from lct_pipeline.datasets.model_set import ModelSet
from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.datasets.splits import indices_of
from lct_pipeline.evaluation.generator import Generator
from lct_pipeline.models.autoencoder.coding import decode, place
from lct_pipeline.models.digests import tensors_digest

TITLES = {
    "last": "last checkpoint",
    "best_ema": "best EMA",
    "combined": "combined (LCSC)",
}
NO_PLAN = {"nfe": 0, "intermediate_sigma": None, "renoise": None, "solver": None}


@dataclass(frozen=True)
class Subject:
    """Something that makes images: what a row says about it, and batches for each seed.

    Subjects of the same ``weights``, a digest, make the same images with the same plan.
    """

    about: dict[str, Any]
    num_images: int
    batches: Callable[[int], Iterator[Tensor]]
    depends_on_seed: bool = True
    weights: str = ""

    @property
    def key(self) -> tuple[Any, ...]:
        """Return what the images depend on, but for the seed."""
        return (self.weights, *(v for k, v in self.about.items() if k != "model"))


def plans_of(models: ModelSet, name: str) -> list[SamplingPlan]:
    """Return the plans that were selected for a model."""
    return plans_from(models.plans[name])


def plans_from(said: list[dict[str, Any]]) -> list[SamplingPlan]:
    """Return plans that JSON says."""
    return [SamplingPlan(**{**p, "sigmas": tuple(p["sigmas"])}) for p in said]


def trained_models(
    models: ModelSet, generator: Generator, count: int
) -> Iterator[Subject]:
    """Yield each model with each of its plans, the generator having its weights until the next."""
    for name in models.names:
        tensors = models.file(name).tensors
        generator.load(tensors)
        weights = tensors_digest(tensors)
        for plan in plans_of(models, name):

            def batches(seed: int, plan: SamplingPlan = plan) -> Iterator[Tensor]:
                return generator.images(count, plan, seed=seed, purpose="evaluation")

            about = {"model": name, **plan_columns(plan), "solver": plan.solver}
            yield Subject(about, count, batches, weights=weights)


def plan_columns(plan: SamplingPlan) -> dict[str, Any]:
    """Return what a row says about how a model generated."""
    second = plan.sigmas[1] if len(plan.sigmas) > 1 else None
    return {
        "nfe": plan.num_evaluations,
        "intermediate_sigma": second,
        "renoise": None if second is None else plan.renoise,
    }


def decoded_noise(generator: Generator, count: int) -> Subject:
    """Return images of noise with the latents' mean and standard deviation: no model at all."""
    return Subject(
        {"model": "gaussian_latents", **NO_PLAN},
        count,
        lambda seed: gaussian_images(generator, count, seed),
    )


def gaussian_images(generator: Generator, count: int, seed: int) -> Iterator[Tensor]:
    """Yield decoded noise."""
    sigma_data = generator.model.sigma_data
    for noise in noise_batches(
        count,
        generator.sample_shape,
        num_evaluations=1,
        batch_size=generator.sampling.batch_size,
        seed=seed,
        purpose="gaussian",
    ):
        yield generator.decode_latents(sigma_data * noise[0].to(generator.device))


def reconstructions(
    latents: ShardStore,
    image_manifest: DataFrame,
    decoder: Decoder,
    quantise: Callable[[Tensor], Tensor],
    device: torch.device,
    batch_size: int,
) -> Subject:
    """Return the test images through the autoencoder: no model in its latents can be better."""
    indices = indices_of(image_manifest, "test")
    model = place(decoder.autoencoder.model, device)

    def batches(seed: int) -> Iterator[Tensor]:
        for z in latents.batches("mean", batch_size, indices):
            yield quantise(decode(model, z.to(device).float()))

    about = {"model": "reconstructed_test_images", **NO_PLAN}
    return Subject(about, len(indices), batches, depends_on_seed=False)
