"""Nodes of the evaluation stage, and of the references that the search needs too."""

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
from lct_pipeline.pipelines.references.nodes import extractor_of
from lct_pipeline.pipelines.splits import indices_of
from lct_pipeline.reporting.progress import track

if TYPE_CHECKING:
    from torch import Tensor

    from lct_pipeline.models.features import FeatureExtractor
    from lct_pipeline.pipelines.generation import Generator

logger = logging.getLogger(__name__)

MODELS = ("last", "best_ema", "combined")
EVALUATIONS = (1, 2)


def evaluate_models(
    combined_model: TensorFile,
    control_models: CheckpointStore,
    autoencoder: StoredAutoencoder,
    latent_normalisation: TensorFile,
    feature_extractor: TensorFile,
    reference_statistics: TensorFile,
    parameters: Evaluation,
    sampling: Sampling,
    runtime: Runtime,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return the distances to the test split, a row per model, NFE and metric."""
    from lct_pipeline.pipelines.generation import build_generator

    extractor = extractor_of(feature_extractor, runtime)
    network = combined_model.metadata["network"]
    generator = build_generator(
        network, autoencoder, latent_normalisation, sampling, runtime
    )
    real = reference_statistics.tensors["test.features"]
    count = parameters.num_images or len(real)
    protocol = {
        "split": "test",
        "num_real": len(real),
        "seed": parameters.seed,
        "extractor": extractor.name,
        "quantisation": "uint8",
    }
    rows = []
    for model, num_evaluations, features in track(
        _features_by_model(
            _weights(combined_model, control_models),
            generator,
            extractor,
            reference_statistics.tensors["validation.features"],
            count,
            parameters.seed,
        ),
        "evaluate",
        "model",
        total=len(MODELS) * len(EVALUATIONS) + 2,
    ):
        about = {"model": model, "nfe": num_evaluations}
        rows += _distances(about, features, real, extractor, protocol)
    return {"rows": rows}, pd.DataFrame(rows)


def _weights(
    combined_model: TensorFile, control_models: CheckpointStore
) -> dict[str, dict[str, Tensor]]:
    controls = {
        name: control_models.read(name).tensors for name in MODELS if name != "combined"
    }
    return {**controls, "combined": combined_model.tensors}


def _features_by_model(
    weights: dict[str, dict[str, Tensor]],
    generator: Generator,
    extractor: FeatureExtractor,
    validation: Tensor,
    count: int,
    seed: int,
) -> Iterator[tuple[str, int, Tensor]]:
    """Yield name, NFE and features of each model, then of two controls without a model."""
    from lct_pipeline.core.sample_quality import features_of

    for name in MODELS:
        generator.load(weights[name])
        for num_evaluations in EVALUATIONS:
            images = generator.images(
                count, num_evaluations=num_evaluations, seed=seed, purpose="evaluation"
            )
            yield name, num_evaluations, features_of(images, extractor.extract)
    gaussian = _decoded_gaussian_latents(generator, count, seed)
    yield "gaussian_latents", 0, features_of(gaussian, extractor.extract)
    yield "real_validation_images", 0, validation[:count]


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
    real: Tensor,
    extractor: FeatureExtractor,
    protocol: dict[str, Any],
) -> list[dict[str, Any]]:
    from lct_pipeline.core.frechet import (
        feature_statistics,
        frechet_distance,
        kernel_distance,
    )

    values = {
        extractor.frechet_name: frechet_distance(
            feature_statistics(features), feature_statistics(real)
        ),
        extractor.kernel_name: kernel_distance(features, real),
    }
    return [
        {
            **about,
            "metric": metric,
            "value": value,
            "num_generated": len(features),
            **protocol,
        }
        for metric, value in values.items()
    ]


def draw_sample_grid(
    combined_model: TensorFile,
    control_models: CheckpointStore,
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

    network = combined_model.metadata["network"]
    generator = build_generator(
        network, autoencoder, latent_normalisation, sampling, runtime
    )
    weights = _weights(combined_model, control_models)
    titles = {
        "last": "last checkpoint",
        "best_ema": "best EMA",
        "combined": "combined (LCSC)",
    }
    panels = {
        f"{title}, 1 step": generator.grid(weights[name], num_evaluations=1, seed=0)
        for name, title in titles.items()
    }
    panels["combined (LCSC), 2 steps"] = generator.grid(
        weights["combined"], num_evaluations=2, seed=0
    )
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
