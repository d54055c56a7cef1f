"""How a second step is taken, at which level and with which noise: by the validation split."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pandas as pd
from torch import Tensor

from lct_pipeline.core.sampling_plans import SamplingPlan
from lct_pipeline.datasets.checkpoints import CheckpointCatalog
from lct_pipeline.datasets.decoder import Decoder
from lct_pipeline.datasets.model_set import last_weights
from lct_pipeline.datasets.reference import Reference
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.evaluation.evaluator import Evaluator
from lct_pipeline.evaluation.extractors import extractor_of
from lct_pipeline.evaluation.feature_spaces import FeatureSpace, real_images
from lct_pipeline.evaluation.generator import (
    Generator,
    build_generator,
    diffusion_plans,
    one_step,
    two_step_plans,
)
from lct_pipeline.evaluation.models import plan_columns
from lct_pipeline.models.description import ModelDescription
from lct_pipeline.models.digests import tensors_digest
from lct_pipeline.parameters import Runtime, Sampling
from lct_pipeline.parameters.evaluation import Evaluation
from lct_pipeline.progress import track

SPLIT, NOISE = "validation", "second step"


def select_sampling_plan(
    best_ema: TensorFile,
    combined_model: TensorFile | None,
    catalog: CheckpointCatalog,
    decoder: Decoder,
    reference: Reference,
    parameters: Evaluation,
    sampling: Sampling,
    runtime: Runtime,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the distance at each level and kind of noise of a second step, and the best plans.

    Each model gets its own, so that values of two evaluations are fair to all. Diffusion models
    have no such choice: the table has the plans of the final one alone.
    """
    network = ModelDescription.from_json(best_ema.metadata["network"])
    generator = build_generator(network, decoder, sampling, runtime)
    extractor = extractor_of(reference.extractor, runtime)
    real = real_images(reference.statistics, SPLIT)
    space = FeatureSpace(extractor, (real,))
    weights = {
        "last": last_weights(catalog).tensors,
        "best_ema": best_ema.tensors,
        **({} if combined_model is None else {"combined": combined_model.tensors}),
    }
    plans = _candidate_plans(generator)
    is_diffusion = network.model == "diffusion"
    measured = {
        name: weights[name] for name in list(weights)[-1 if is_diffusion else 0 :]
    }
    num_images = parameters.num_selection_images or real.num_images
    table = _distances(measured, plans, generator, space, num_images, parameters.seed)
    if is_diffusion:
        every = [asdict(plan) for plan in plans]
        return table, {"plans": dict.fromkeys(weights, every)}
    return table, _selected(table, plans)


def _candidate_plans(generator: Generator) -> list[SamplingPlan]:
    if generator.network.model == "diffusion":
        return diffusion_plans(generator.sampling)
    first = one_step(generator.network)
    return [first, *two_step_plans(generator.network, generator.sampling)]


def _distances(
    weights: dict[str, dict[str, Tensor]],
    plans: list[SamplingPlan],
    generator: Generator,
    space: FeatureSpace,
    num_images: int,
    seed: int,
) -> pd.DataFrame:
    """Return a row for each model and plan, all from the same noise; of equal weights once."""
    evaluator, (real,) = Evaluator((space,)), space.references
    about = {
        "metric": space.extractor.frechet_name,
        "split": SPLIT,
        "num_generated": num_images,
        "num_real": real.num_images,
    }
    digests = {name: tensors_digest(tensors) for name, tensors in weights.items()}
    rows, known = [], dict[tuple[str, SamplingPlan], float]()
    pairs = [(name, plan) for name in weights for plan in plans]
    for name, plan in track(pairs, "select sampling plan", "plan"):
        key = digests[name], plan
        if key not in known:
            if plan is plans[0]:
                generator.load(weights[name])
            images = generator.images(num_images, plan, seed=seed, purpose=NOISE)
            (found,) = evaluator.features(images, num_images)
            known[key] = real.frechet_distance(found)
        row = {"model": name, **plan_columns(plan), "distance": known[key]}
        rows.append({**row, **about})
    return pd.DataFrame(rows)


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
