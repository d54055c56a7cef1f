"""Nodes of the evaluation stage: the final numbers and pictures."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lct_pipeline.datasets.autoencoder import StoredAutoencoder
from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.datasets.tensor_file import CheckpointStore, TensorFile
from lct_pipeline.errors import DataError
from lct_pipeline.lazy import pd
from lct_pipeline.parameters import Evaluation, Runtime, Sampling
from lct_pipeline.pipelines.references.nodes import extractor_of, statistics_of
from lct_pipeline.pipelines.splits import indices_of
from lct_pipeline.reporting.progress import track

if TYPE_CHECKING:
    from torch import Tensor

    from lct_pipeline.core.frechet import FrechetReference
    from lct_pipeline.models.features import FeatureExtractor
    from lct_pipeline.pipelines.generation import Generator, SamplingPlan

logger = logging.getLogger(__name__)

TITLES = {
    "last": "last checkpoint",
    "best_ema": "best average",
    "combined": "combined (LCSC)",
}


def evaluate_models(
    best_average: TensorFile,
    combined_model: TensorFile | None,
    checkpoint_index: pd.DataFrame,
    checkpoints: CheckpointStore,
    sampling_plans: dict[str, Any],
    autoencoder: StoredAutoencoder,
    latent_normalisation: TensorFile,
    feature_extractor: TensorFile,
    reference_statistics: TensorFile,
    parameters: Evaluation,
    sampling: Sampling,
    runtime: Runtime,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return the distances to the test split, a row per model, plan and metric."""
    from lct_pipeline.core.frechet import FrechetReference
    from lct_pipeline.pipelines.generation import build_generator

    if combined_model is None:
        logger.info(
            "There is no combined model yet: `kedro run --pipeline=combine` makes one."
        )
    extractor = extractor_of(feature_extractor, runtime)
    network = best_average.metadata["network"]
    generator = build_generator(
        network, autoencoder, latent_normalisation, sampling, runtime
    )
    weights = _weights(best_average, combined_model, checkpoint_index, checkpoints)
    plans = plans_of(sampling_plans)
    reference = FrechetReference(statistics_of(reference_statistics, "test"))
    real = reference_statistics.tensors["test.features"]
    count = parameters.num_images or reference.statistics.num_images
    protocol = {
        "split": "test",
        "seed": parameters.seed,
        "extractor": extractor.name,
        "quantisation": "uint8",
    }
    validation = reference_statistics.tensors["validation.features"]
    rows = []
    for about, features in track(
        _features_by_model(
            weights, plans, generator, extractor, validation, count, parameters.seed
        ),
        "evaluate",
        "model",
        total=len(weights) * len(plans) + 2,
    ):
        rows += _distances(about, features, reference, real, extractor, protocol)
    return {"rows": rows}, pd.DataFrame(rows)


def plans_of(sampling_plans: dict[str, Any]) -> list[SamplingPlan]:
    """Return the chosen plans."""
    from lct_pipeline.pipelines.generation import SamplingPlan

    return [
        SamplingPlan(**{**plan, "sigmas": tuple(plan["sigmas"])})
        for plan in sampling_plans["plans"]
    ]


def _weights(
    best_average: TensorFile,
    combined_model: TensorFile | None,
    checkpoint_index: pd.DataFrame,
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


def _features_by_model(
    weights: dict[str, dict[str, Tensor]],
    plans: list[SamplingPlan],
    generator: Generator,
    extractor: FeatureExtractor,
    validation: Tensor,
    count: int,
    seed: int,
) -> Iterator[tuple[dict[str, Any], Tensor]]:
    """Yield what is measured and its features, then the same of two controls without a model."""
    from lct_pipeline.core.sample_quality import features_of

    for name, tensors in weights.items():
        generator.load(tensors)
        for plan in plans:
            images = generator.images(count, plan, seed=seed, purpose="evaluation")
            yield _about(name, plan), features_of(images, extractor.extract)
    gaussian = _decoded_gaussian_latents(generator, count, seed)
    none = {"nfe": 0, "second_sigma": None, "renoise": None, "solver": None}
    yield (
        {"model": "gaussian_latents", **none},
        features_of(gaussian, extractor.extract),
    )
    yield {"model": "real_validation_images", **none}, validation[:count]


def _about(model: str, plan: SamplingPlan) -> dict[str, Any]:
    second = plan.sigmas[1] if len(plan.sigmas) > 1 else None
    return {
        "model": model,
        "nfe": plan.num_evaluations,
        "second_sigma": second,
        "renoise": None if second is None else plan.renoise,
        "solver": plan.solver,
    }


def _decoded_gaussian_latents(
    generator: Generator, count: int, seed: int
) -> Iterator[Tensor]:
    """Yield images of noise with the latents' mean and standard deviation: no model at all."""
    from lct_pipeline.core.sample_quality import noise_batches

    sigma_data = generator.model.sigma_data
    for noise in noise_batches(
        count,
        generator.sample_shape,
        num_evaluations=1,
        batch_size=64,
        seed=seed,
        purpose="gaussian",
    ):
        yield generator.decode_latents(sigma_data * noise[0].to(generator.device))


def _distances(
    about: dict[str, Any],
    features: Tensor,
    reference: FrechetReference,
    real: Tensor,
    extractor: FeatureExtractor,
    protocol: dict[str, Any],
) -> list[dict[str, Any]]:
    """Return a row for each distance: to the statistics of all real images, to features of some."""
    from lct_pipeline.core.frechet import kernel_distance

    found = {
        extractor.frechet_name: (
            reference.distance_of_features(features),
            reference.statistics.num_images,
        ),
        extractor.kernel_name: (kernel_distance(features, real), len(real)),
    }
    return [
        {
            **about,
            "metric": metric,
            "value": value,
            "num_generated": len(features),
            "num_real": num_real,
            **protocol,
        }
        for metric, (value, num_real) in found.items()
    ]


def draw_sample_grid(
    best_average: TensorFile,
    combined_model: TensorFile | None,
    checkpoint_index: pd.DataFrame,
    checkpoints: CheckpointStore,
    sampling_plans: dict[str, Any],
    images: ShardStore,
    image_manifest: pd.DataFrame,
    autoencoder: StoredAutoencoder,
    latent_normalisation: TensorFile,
    sampling: Sampling,
    runtime: Runtime,
) -> Any:
    """Draw samples of each model from the same noise, beside real images and decoded noise."""
    import torch

    from lct_pipeline.pipelines.generation import build_generator
    from lct_pipeline.reporting.sample_grids import draw_panels

    generator = build_generator(
        best_average.metadata["network"],
        autoencoder,
        latent_normalisation,
        sampling,
        runtime,
    )
    weights = _weights(best_average, combined_model, checkpoint_index, checkpoints)
    first, *more = plans_of(sampling_plans)
    panels = {
        f"{TITLES[name]}, NFE {first.num_evaluations}": generator.grid(
            tensors, first, seed=0
        )
        for name, tensors in weights.items()
    }
    final = list(weights)[-1]
    for plan in more[-1:]:
        title = f"{TITLES[final]}, NFE {plan.num_evaluations}"
        panels[title] = generator.grid(weights[final], plan, seed=0)
    count = sampling.grid_size**2
    noise = torch.cat(list(_decoded_gaussian_latents(generator, count, seed=0)))
    panels["no model: decoded noise"] = noise.cpu()
    test = indices_of(image_manifest, "test")[:count]
    panels["real images (test split)"] = images.gather("images", test)
    return draw_panels(panels, "Samples from the same noise")


def log_evaluation(evaluation_table: pd.DataFrame) -> None:
    """Log the table that a person looks for at the end of a run."""
    if evaluation_table.empty:
        raise DataError("the evaluation has no rows.")
    order = evaluation_table["model"].drop_duplicates()
    wide = evaluation_table.pivot(
        index=["model", "nfe"], columns="metric", values="value"
    )
    table = wide.reindex(order, level="model").to_string(float_format="{:.3f}".format)
    logger.info("Distance to the test split (lower is better):\n%s", table)
