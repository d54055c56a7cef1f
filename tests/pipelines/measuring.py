"""What the tests of choices and of the evaluation share: distances, measured another way."""

from __future__ import annotations

from typing import Any

import torch
from cleanfid.fid import frechet_distance as cleanfid_frechet_distance

from conftest import SmokeResults
from lct_pipeline.core.sample_quality import features_of
from lct_pipeline.datasets.tensor_file import TensorFile
from lct_pipeline.pipelines.generation import SamplingPlan, build_generator
from lct_pipeline.pipelines.references.nodes import extractor_of

ONE_STEP = SamplingPlan(1, (80.0,))


def generation_inputs(
    results: SmokeResults, references: TensorFile | None = None
) -> tuple[Any, ...]:
    load, parameters = results.catalog.load, results.parameters
    return (
        load("autoencoder"),
        load("latent_normalisation"),
        load("feature_extractor"),
        references or load("reference_statistics"),
        parameters.evaluation,
        parameters.sampling,
        parameters.runtime,
    )


def distance(
    results: SmokeResults, model: TensorFile, plan: SamplingPlan, purpose: str
) -> float:
    """Return clean-fid's distance of what a model makes to the split that a purpose uses."""
    load, parameters = results.catalog.load, results.parameters
    split, count = {
        "evaluation": ("test", parameters.evaluation.num_images),
        "choice": ("validation", parameters.evaluation.num_choice_images),
        "second step": ("validation", parameters.evaluation.num_choice_images),
    }[purpose]
    generator = build_generator(
        model.metadata["network"],
        load("autoencoder"),
        load("latent_normalisation"),
        parameters.sampling,
        parameters.runtime,
    )
    generator.load(model.tensors)
    extractor = extractor_of(load("feature_extractor"), parameters.runtime)
    seed = parameters.evaluation.seed
    images = generator.images(count, plan, seed=seed, purpose=purpose)
    references = load("reference_statistics").tensors
    return clean_fid_to(
        features_of(images, extractor.extract),
        references[f"{split}.mu"],
        references[f"{split}.cov"],
    )


def clean_fid(features: torch.Tensor, real: torch.Tensor) -> float:
    y = real.double()
    return clean_fid_to(features, y.mean(0), y.T.cov())


def clean_fid_to(features: torch.Tensor, mu: torch.Tensor, cov: torch.Tensor) -> float:
    x = features.double()
    return cleanfid_frechet_distance(
        x.mean(0).numpy(), x.T.cov().numpy(), mu.numpy(), cov.numpy()
    )
