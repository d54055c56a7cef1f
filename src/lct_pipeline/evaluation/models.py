"""What is evaluated: trained models, and controls without a model, as streams of images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lct_pipeline.datasets.autoencoder import StoredAutoencoder
from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.datasets.splits import indices_of
from lct_pipeline.datasets.tensors import CheckpointStore, TensorFile
from lct_pipeline.lazy_types import DataFrame

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from lct_pipeline.evaluation.generator import Generator, SamplingPlan

TITLES = {
    "last": "last checkpoint",
    "best_ema": "best average",
    "combined": "combined (LCSC)",
}
NO_PLAN = {"nfe": 0, "second_sigma": None, "renoise": None, "solver": None}


@dataclass(frozen=True)
class Subject:
    """Something that makes images: what a row says about it, and batches for each seed."""

    about: dict[str, Any]
    num_images: int
    batches: Callable[[int], Iterator[Tensor]]
    depends_on_seed: bool = True


def weights_of(
    best_average: TensorFile,
    combined_model: TensorFile | None,
    checkpoint_index: DataFrame,
    checkpoints: CheckpointStore,
) -> dict[str, dict[str, Tensor]]:
    """Return the weights of the models that are compared."""
    raw = checkpoint_index[checkpoint_index["kind"] == "raw"]
    last = raw.sort_values("step").iloc[-1]
    weights = {
        "last": checkpoints.read(last["name"], last["digest"]).tensors,
        "best_ema": best_average.tensors,
    }
    if combined_model is None:
        return weights
    return {**weights, "combined": combined_model.tensors}


def plans_of(sampling_plans: dict[str, Any], model: str) -> list[SamplingPlan]:
    """Return the plans that were chosen for a model."""
    from lct_pipeline.evaluation.generator import SamplingPlan

    return [
        SamplingPlan(**{**plan, "sigmas": tuple(plan["sigmas"])})
        for plan in sampling_plans["plans"][model]
    ]


def trained_models(
    weights: dict[str, dict[str, Tensor]],
    plans: dict[str, list[SamplingPlan]],
    generator: Generator,
    count: int,
) -> Iterator[Subject]:
    """Yield each model with each of its plans, the generator having its weights until the next."""
    for name, tensors in weights.items():
        generator.load(tensors)
        for plan in plans[name]:

            def batches(seed: int, plan: SamplingPlan = plan) -> Iterator[Tensor]:
                return generator.images(count, plan, seed=seed, purpose="evaluation")

            yield Subject(_about(name, plan), count, batches)


def _about(model: str, plan: SamplingPlan) -> dict[str, Any]:
    second = plan.sigmas[1] if len(plan.sigmas) > 1 else None
    return {
        "model": model,
        "nfe": plan.num_evaluations,
        "second_sigma": second,
        "renoise": None if second is None else plan.renoise,
        "solver": plan.solver,
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
    from lct_pipeline.core.sample_quality import noise_batches

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
    autoencoder: StoredAutoencoder,
    quantise: Callable[[Tensor], Tensor],
    device: torch.device,
    batch_size: int,
) -> Subject:
    """Return the test images through the autoencoder: no model in its latents can be better."""
    from lct_pipeline.models.autoencoder.coding import decode, place

    indices = indices_of(image_manifest, "test")
    model = place(autoencoder.model, device)

    def batches(seed: int) -> Iterator[Tensor]:
        for z in latents.batches("mean", batch_size, indices):
            yield quantise(decode(model, z.to(device).float()))

    about = {"model": "reconstructed_test_images", **NO_PLAN}
    return Subject(about, len(indices), batches, depends_on_seed=False)
