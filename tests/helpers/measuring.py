"""What the tests of choices and of the evaluation share: distances, measured another way."""

from __future__ import annotations

from typing import Any

import torch
from scipy.linalg import sqrtm

from conftest import SmokeResults, changed
from lct_pipeline.core.sample_quality import features_of
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.evaluation.feature_spaces import extractor_of
from lct_pipeline.evaluation.generator import SamplingPlan, build_generator
from lct_pipeline.evaluation.references import RealSplits
from lct_pipeline.models.denoiser import ModelDescription

ONE_STEP = SamplingPlan(1, (80.0,))


def generation_inputs(results: SmokeResults) -> tuple[Any, ...]:
    """Return the last inputs of nodes that generate and measure."""
    parameters = results.parameters
    return (
        results.catalog.load("decoder"),
        results.catalog.load("reference"),
        parameters.evaluation,
        parameters.sampling,
        parameters.runtime,
    )


def real_splits(results: SmokeResults, **features: Any) -> RealSplits:
    """Return the run's real images, measured with changes to the parameters."""
    load, parameters = results.catalog.load, results.parameters
    return RealSplits(
        load("images"),
        load("image_manifest"),
        changed(parameters.features, features),
        parameters.runtime,
    )


def distance(
    results: SmokeResults, model: TensorFile, plan: SamplingPlan, purpose: str
) -> float:
    """Return the distance of what a model makes to the split that a purpose uses, by SciPy.

    That of the evaluation is the mean over its seeds of noise.
    """
    load, parameters = results.catalog.load, results.parameters
    split, count = {
        "evaluation": ("test", parameters.evaluation.num_images),
        "second step": ("validation", parameters.evaluation.num_selection_images),
    }[purpose]
    generator = build_generator(
        ModelDescription.from_json(model.metadata["network"]),
        load("decoder"),
        parameters.sampling,
        parameters.runtime,
    )
    generator.load(model.tensors)
    extractor = extractor_of(load("reference").extractor, parameters.runtime)
    first = parameters.evaluation.seed
    num_seeds = parameters.evaluation.num_seeds if purpose == "evaluation" else 1
    real = load("reference").statistics.tensors
    distances = []
    for seed in range(first, first + num_seeds):
        images = generator.images(count, plan, seed=seed, purpose=purpose)
        features = features_of(images, extractor.extract)
        moments = real[f"{split}.mu"], real[f"{split}.cov"]
        distances.append(frechet_by_scipy(features, *moments))
    return sum(distances) / num_seeds


def frechet_of_sets(features: torch.Tensor, real: torch.Tensor) -> float:
    y = real.double()
    return frechet_by_scipy(features, y.mean(0), y.T.cov())


def frechet_by_scipy(
    features: torch.Tensor, mu: torch.Tensor, cov: torch.Tensor
) -> float:
    """Return the squared Frechet distance as most people compute it."""
    x = features.double()
    a, b = x.T.cov().numpy(), cov.numpy()
    shift = (x.mean(0) - mu).square().sum().item()
    return shift + float((a + b - 2 * sqrtm(a @ b).real).trace())
