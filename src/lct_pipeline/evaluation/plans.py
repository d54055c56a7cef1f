"""How a model is sampled: the plans there are, and which is best by the validation split."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import pandas as pd

from lct_pipeline.core.samplers import Renoise, SamplingPlan
from lct_pipeline.datasets.checkpoints import CheckpointCatalog
from lct_pipeline.datasets.decoder import Decoder
from lct_pipeline.datasets.model_set import last_weights
from lct_pipeline.datasets.reference import Reference
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import ParameterError
from lct_pipeline.evaluation.evaluator import Evaluator
from lct_pipeline.evaluation.feature_spaces import (
    FeatureSpace,
    extractor_of,
    real_images,
)
from lct_pipeline.evaluation.generator import Subject, build_generator, trained_models
from lct_pipeline.models.denoiser import ModelDescription
from lct_pipeline.parameters import Runtime, Sampling
from lct_pipeline.parameters.evaluation import Evaluation
from lct_pipeline.progress import track

SPLIT, NOISE = "validation", "second step"


def one_step(network: ModelDescription) -> SamplingPlan:
    """Return the plan of one evaluation of a consistency model."""
    return SamplingPlan(1, (network.sigma_max,))


def two_step_plans(network: ModelDescription, sampling: Sampling) -> list[SamplingPlan]:
    """Return the candidates for two evaluations: each level with each kind of new noise.

    Levels that the model was not trained on are left out: those below a truncation.
    """
    low, high = _trained_levels(network)
    sigmas = [sigma for sigma in sampling.intermediate_sigmas if low <= sigma < high]
    return [
        SamplingPlan(2, (high, sigma), renoise)
        for renoise in sampling.renoise
        for sigma in sigmas
    ]


def _trained_levels(network: ModelDescription) -> tuple[float, float]:
    return max(network.lowest_level, network.sigma_min), network.sigma_max


def diffusion_plans(sampling: Sampling) -> list[SamplingPlan]:
    """Return the plans of a diffusion model, one for each number of evaluations, fewest first."""
    return [
        SamplingPlan(n, solver=sampling.diffusion.sampler)
        for n in sorted(set(sampling.diffusion.num_evaluations))
    ]


def first_plan(network: ModelDescription, sampling: Sampling) -> SamplingPlan:
    """Return the plan with the fewest evaluations, by which weights are selected."""
    return candidate_plans(network, sampling)[0]


def candidate_plans(
    network: ModelDescription, sampling: Sampling
) -> list[SamplingPlan]:
    """Return all plans that a model may be used with, the fewest evaluations first."""
    if network.model == "diffusion":
        return diffusion_plans(sampling)
    return [one_step(network), *two_step_plans(network, sampling)]


def deployed_plan(
    network: ModelDescription,
    sampling: Sampling,
    nfe: int | None,
    intermediate_sigma: float,
    renoise: Renoise,
) -> SamplingPlan:
    """Return the plan that a model is going to be used with.

    Args:
        network: Description of the network.
        sampling: Has the solver of diffusion models.
        nfe: Number of evaluations; None is the smallest there is.
        intermediate_sigma: Level of the second evaluation of a consistency model.
        renoise: Noise of it.

    Raises:
        ParameterError: A consistency model is asked for more than two, or at a level that it was
            not trained on; Heun's method for a number that it does not have.
    """
    if nfe is None:
        return first_plan(network, sampling)
    if network.model == "diffusion":
        solver = sampling.diffusion.sampler
        if solver == "heun" and (nfe < 3 or nfe % 2 == 0):
            raise ParameterError(
                f"combination.fitness.nfe={nfe}: heun evaluates twice a step but once in the last: "
                "give an odd number from 3 on."
            )
        return SamplingPlan(nfe, solver=solver)
    if nfe == 1:
        return one_step(network)
    low, high = _trained_levels(network)
    if nfe > 2 or not low <= intermediate_sigma < high:
        raise ParameterError(
            f"combination.fitness: {nfe} evaluations, the second at {intermediate_sigma}: a "
            f"consistency model takes one or two, the second between {low} and {high}."
        )
    return SamplingPlan(2, (high, intermediate_sigma), renoise)


def select_sampling_plan(
    best_ema: TensorFile,
    combined: TensorFile | None,
    catalog: CheckpointCatalog,
    decoder: Decoder,
    reference: Reference,
    parameters: Evaluation,
    sampling: Sampling,
    runtime: Runtime,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the distance at each level and kind of noise of a second step, and the best plans.

    Each model gets its own, so that values of two evaluations are fair to all. Diffusion models
    need no selection: the table has the plans of the final one alone.
    """
    network = ModelDescription.from_json(best_ema.metadata["network"])
    generator = build_generator(network, decoder, sampling, runtime)
    real = real_images(reference.statistics, SPLIT)
    space = FeatureSpace(extractor_of(reference.extractor, runtime), (real,))
    files = {"last": last_weights(catalog), "best_ema": best_ema}
    if combined is not None:
        files["combined"] = combined
    weights = [(name, file.tensors) for name, file in files.items()]
    plans = candidate_plans(network, sampling)
    is_diffusion = network.model == "diffusion"
    measured = weights[-1:] if is_diffusion else weights
    num_images = parameters.num_selection_images or real.num_images
    subjects = trained_models(
        measured, dict.fromkeys(files, plans), generator, num_images, NOISE
    )
    total = len(measured) * len(plans)
    progress = track(subjects, "select sampling plan", "plan", total=total)
    table = _distances(progress, space, num_images, parameters.seed)
    if is_diffusion:
        every = [asdict(plan) for plan in plans]
        return table, {"plans": dict.fromkeys(files, every)}
    return table, _selected(table, plans)


def _distances(
    subjects: Iterable[Subject], space: FeatureSpace, num_images: int, seed: int
) -> pd.DataFrame:
    """Return a row for each model and plan, all from the same noise; of equal weights once."""
    evaluator, (real,) = Evaluator((space,)), space.references
    rows, known = [], dict[Any, float]()
    for subject in subjects:
        if subject.key not in known:
            images = subject.batches(seed=seed)
            (found,) = evaluator.features(images, num_images)
            known[subject.key] = real.frechet_distance(found)
        rows.append({**subject.about, "distance": known[subject.key]})
    return (
        pd.DataFrame(rows)
        .drop(columns="solver")
        .assign(metric=space.extractor.frechet_name, split=SPLIT)
        .assign(num_generated=num_images, num_real=real.num_images)
    )


def _selected(table: pd.DataFrame, plans: list[SamplingPlan]) -> dict[str, Any]:
    """Return each model's one step and best two, and whether the second brought anything."""
    selected: dict[str, list[dict[str, Any]]] = {}
    improves: dict[str, bool | None] = {}
    for name, rows in table.groupby("model", sort=False):
        distances = rows["distance"].to_numpy()
        best = 1 + int(distances[1:].argmin()) if len(plans) > 1 else None
        used = [plans[0]] if best is None else [plans[0], plans[best]]
        selected[str(name)] = [asdict(plan) for plan in used]
        improves[str(name)] = (
            None if best is None else bool(distances[best] < distances[0])
        )
    return {"plans": selected, "two_step_improves": improves}
