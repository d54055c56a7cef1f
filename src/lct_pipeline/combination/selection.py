"""Choices on the validation split: which average of the weights, and how to take a second step."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pandas as pd
from torch import Tensor

from lct_pipeline.combination.averages import averages_of
from lct_pipeline.combination.weights import CombinedWeights
from lct_pipeline.core.metrics.frechet import FrechetReference
from lct_pipeline.core.sample_quality import features_of
from lct_pipeline.core.sampling_plans import SamplingPlan
from lct_pipeline.datasets.checkpoints import CheckpointCatalog
from lct_pipeline.datasets.decoder import Decoder
from lct_pipeline.datasets.model_set import last_weights
from lct_pipeline.datasets.reference import Reference
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.evaluation.extractors import extractor_of
from lct_pipeline.evaluation.generator import (
    Generator,
    build_generator,
    diffusion_plans,
    first_plan,
    one_step,
    two_step_plans,
)
from lct_pipeline.evaluation.references import statistics_of
from lct_pipeline.parameters import Runtime, Sampling
from lct_pipeline.parameters.evaluation import Evaluation
from lct_pipeline.progress import track


def choose_average(
    catalog: CheckpointCatalog,
    decoder: Decoder,
    reference: Reference,
    parameters: Evaluation,
    sampling: Sampling,
    runtime: Runtime,
) -> tuple[pd.DataFrame, TensorFile]:
    """Return the distance of every average of the weights, and the best of them.

    The averages are those of the last step, and others made afterwards from the stored snapshots
    of power-function averages (EDM2).
    """
    network = catalog.store.header(catalog.rows["name"].iloc[-1])["network"]
    generator = build_generator(network, decoder, sampling, runtime)
    measure = Measure(generator, reference, parameters, runtime)
    averages = averages_of(catalog.rows, parameters.posthoc_widths)
    is_average = (catalog.rows["kind"] != "raw").to_numpy()
    weights = CombinedWeights(catalog.rows[is_average], catalog.store)
    rows = []
    for average in track(averages, "choose average", "average"):
        generator.load(weights.state_dict(average.alpha[is_average]))
        value = measure(first_plan(network, sampling), "choice")
        about = {"name": average.name, "kind": average.kind, "distance": value}
        rows.append({**about, **measure.about})
    table = pd.DataFrame(rows)
    best = averages[int(table["distance"].argmin())]
    about = {"network": network, "name": best.name, "kind": best.kind}
    tensors = weights.state_dict(best.alpha[is_average])
    return table, TensorFile(tensors, about)


def choose_second_step(
    best_average: TensorFile,
    combined_model: TensorFile | None,
    catalog: CheckpointCatalog,
    decoder: Decoder,
    reference: Reference,
    parameters: Evaluation,
    sampling: Sampling,
    runtime: Runtime,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the distance at each level and kind of noise of a second step, and the best plans.

    Each model gets its own, so that figures of two evaluations are fair to all. Diffusion models
    have no such choice: the table has the plans of the final one alone.
    """
    network = best_average.metadata["network"]
    generator = build_generator(network, decoder, sampling, runtime)
    measure = Measure(generator, reference, parameters, runtime)
    weights = {
        "last": last_weights(catalog).tensors,
        "best_ema": best_average.tensors,
        **({} if combined_model is None else {"combined": combined_model.tensors}),
    }
    plans = _candidate_plans(generator)
    if network["model"] == "diffusion":
        final = list(weights)[-1]
        table = _distances({final: weights[final]}, plans, generator, measure)
        every = [asdict(plan) for plan in plans]
        return table, {"plans": dict.fromkeys(weights, every)}
    table = _distances(weights, plans, generator, measure)
    return table, _chosen(table, plans)


def _distances(
    weights: dict[str, dict[str, Tensor]],
    plans: list[SamplingPlan],
    generator: Generator,
    measure: Measure,
) -> pd.DataFrame:
    """Return a row for each model and plan."""
    rows = []
    pairs = [(name, plan) for name in weights for plan in plans]
    for name, plan in track(pairs, "choose second step", "plan"):
        if plan is plans[0]:
            generator.load(weights[name])
        value = measure(plan, "second step")
        rows.append({"model": name, **_row(plan), "distance": value, **measure.about})
    return pd.DataFrame(rows)


def _chosen(table: pd.DataFrame, plans: list[SamplingPlan]) -> dict[str, Any]:
    """Return each model's one step and best two, and whether the second brought anything."""
    chosen: dict[str, list[dict[str, Any]]] = {}
    improves: dict[str, bool | None] = {}
    for name, rows in table.groupby("model", sort=False):
        distances = rows["distance"].to_numpy()
        best = 1 + int(distances[1:].argmin()) if len(plans) > 1 else None
        used = [plans[0]] if best is None else [plans[0], plans[best]]
        chosen[str(name)] = [asdict(plan) for plan in used]
        improves[str(name)] = (
            None if best is None else bool(distances[best] < distances[0])
        )
    return {"plans": chosen, "second_step_improves": improves}


def _candidate_plans(generator: Generator) -> list[SamplingPlan]:
    if generator.network["model"] == "diffusion":
        return diffusion_plans(generator.sampling)
    first = one_step(generator.network)
    return [first, *two_step_plans(generator.network, generator.sampling)]


def _row(plan: SamplingPlan) -> dict[str, Any]:
    second = plan.sigmas[1] if len(plan.sigmas) > 1 else None
    renoise = plan.renoise if second is not None else None
    return {"nfe": plan.num_evaluations, "second_sigma": second, "renoise": renoise}


class Measure:
    """Frechet distance of what a generator makes to the validation split, from the same noise.

    Args:
        generator: Has the weights.
        reference: Has the extractor that gives features, and statistics of the real images.
        parameters: How many images.
        runtime: Where to.
    """

    def __init__(
        self,
        generator: Generator,
        reference: Reference,
        parameters: Evaluation,
        runtime: Runtime,
    ) -> None:
        extractor = extractor_of(reference.extractor, runtime)
        statistics = statistics_of(reference.statistics, "validation")
        num_real = statistics.num_images
        self._reference = FrechetReference(statistics)
        self._generator, self._extract = generator, extractor.extract
        self._seed = parameters.seed
        self._num_images = parameters.num_choice_images or num_real
        self.about = {
            "metric": extractor.frechet_name,
            "split": "validation",
            "num_generated": self._num_images,
            "num_real": num_real,
        }

    def __call__(self, plan: SamplingPlan, purpose: str) -> float:
        """Return the distance of ``num_choice_images`` images made with ``plan``."""
        images = self._generator.images(
            self._num_images, plan, seed=self._seed, purpose=purpose
        )
        return self._reference.distance_of_features(features_of(images, self._extract))
