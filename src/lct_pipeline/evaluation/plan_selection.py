"""How a second step is taken, at which level and with which noise: by the validation split."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import pandas as pd

from lct_pipeline.core.sampling_plans import SamplingPlan
from lct_pipeline.datasets.checkpoints import CheckpointCatalog
from lct_pipeline.datasets.decoder import Decoder
from lct_pipeline.datasets.model_set import last_weights
from lct_pipeline.datasets.reference import Reference
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.evaluation.evaluator import Evaluator
from lct_pipeline.evaluation.extractors import extractor_of
from lct_pipeline.evaluation.feature_spaces import FeatureSpace, real_images
from lct_pipeline.evaluation.generator import build_generator, candidate_plans
from lct_pipeline.evaluation.models import Subject, trained_models
from lct_pipeline.models.denoiser import ModelDescription
from lct_pipeline.parameters import Runtime, Sampling
from lct_pipeline.parameters.evaluation import Evaluation
from lct_pipeline.progress import track

SPLIT, NOISE = "validation", "second step"


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
