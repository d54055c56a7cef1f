"""What stands first: what was made, of what, how good it is and against what."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from lct_pipeline.datasets.results import CombinationResult, EvaluationRow
from lct_pipeline.datasets.run_records import TRAIN_NODE
from lct_pipeline.reporting.results import Results
from lct_pipeline.reporting.verdict import main_rows
from lct_pipeline.reporting.words import (
    MODELS,
    NETWORKS,
    TIMES,
    duration,
    extractor_name,
    large,
    metric_name,
    steps,
    value_text,
)

NOTES = {
    "last": "the weights at the end of training, as they are",
    "best_ema": "the best of all averages of the weights over training, by the validation split",
    "combined": "the checkpoints, weighted by coefficients that a search found",
    "real_validation_images": "that were in no training: what a perfect generator would get",
    "reconstructed_test_images": "the real test images, encoded and decoded: the floor of any "
    "model behind this autoencoder",
    "gaussian_latents": "decoded noise: where one begins",
}


@dataclass(frozen=True)
class Bar:
    """One bar; ``percent`` of the longest there could be, ``spread`` likewise."""

    label: str
    text: str
    value: float
    percent: float
    spread: float
    weak: bool


@dataclass(frozen=True)
class Group:
    """The bars of one model."""

    model: str
    title: str
    note: str
    bars: list[Bar]


def title_of(results: Results) -> str:
    """Return what was made in a few words."""
    source = str(results.parameters.get("ingestion", {}).get("source", ""))
    kind = "data set" if results.num_weights is None else "generator"
    if source == "digits":
        return f"A {kind} of handwritten digits"
    return (
        f"A {kind} of images: {Path(source).stem}" if source else f"A {kind} of images"
    )


def summary(results: Results) -> str:
    """Return in one or two sentences what was trained on what, how long and where."""
    parameters, network = results.parameters, results.network
    if results.num_weights is None or not parameters:
        return "No model has been trained in this run yet."
    if network is None:
        size = large(results.num_weights)
        return f"Checkpoints of another trainer, of {size} weights each."
    side = parameters["ingestion"]["image_size"]
    latent = f" {TIMES} ".join(str(n) for n in network.sample_shape)
    space = "pixels" if parameters["encoding"]["autoencoder"] == "pixels" else "latents"
    made = f"Images of {side} {TIMES} {side} pixels, made by a {network.model} model"
    size = (
        ""
        if results.num_weights is None
        else f" of {large(results.num_weights)} weights"
    )
    return f"{made}{size} ({NETWORKS[network.kind]}, on {latent} {space}).{_training(results)}"


def _training(results: Results) -> str:
    metrics, parameters = results.training_metrics, results.parameters
    if metrics is None or metrics.empty:
        return ""
    done, batch = int(metrics["step"].max()), parameters["training"]["batch_size"]
    text = f" Trained for {done:,} steps of {batch} images"
    if results.ingestion is not None:
        count = results.ingestion["splits"]["train"]
        text += f", from {count:,} training images"
    seconds = node_seconds(results, TRAIN_NODE)
    took = f", in {duration(seconds)}" if seconds else ""
    record = results.records[-1]
    device = "CPU" if record["device"] == "cpu" else record["device"]
    return f"{text}{took} on {device} ({record['machine']})."


def node_seconds(results: Results, name: str) -> float:
    """Return the seconds of a node over all sessions."""
    nodes = (node for record in results.records for node in record["nodes"])
    return sum(node["seconds"] for node in nodes if node["node"] == name)


def score_groups(
    evaluation: list[EvaluationRow], combination: CombinationResult | None
) -> list[Group]:
    """Return the main figure of each model and control as bars on one scale from 0."""
    if not evaluation:
        return []
    rows = main_rows(evaluation)
    longest = max(row.value + (row.std or 0) for row in rows) or 1.0
    trained = [row.nfe for row in rows if row.nfe > 0]
    fewest = min(trained, default=0)
    groups = []
    for model in MODELS:
        of_model = [row for row in rows if row.model == model]
        if of_model:
            bars = [_bar(row, longest, fewest) for row in of_model]
            groups.append(Group(model, MODELS[model], _note(model, combination), bars))
    return groups


def _bar(row: EvaluationRow, longest: float, fewest: int) -> Bar:
    std = row.std
    spread = 0.0 if std is None or math.isnan(std) else 100 * std / longest
    return Bar(
        steps(row.nfe) if row.nfe else f"{row.num_generated:,} images",
        value_text(row.value, std),
        row.value,
        max(0.0, 100 * row.value / longest),
        spread,
        row.nfe > fewest,
    )


def _note(model: str, combination: CombinationResult | None) -> str:
    if model == "combined" and combination is not None:
        if not combination.is_selected:
            return f"the search's gain was gone on new noise: {combination.selected} in its place"
        return f"{len(combination.steps)} checkpoints, with coefficients that a search found"
    return NOTES[model]


def score_caption(evaluation: list[EvaluationRow]) -> str:
    """Return what the bars show, of how many images, by what."""
    rows = main_rows(evaluation)
    row = rows[0]
    seeds = len(row.seeds)
    over = (
        f", mean ± standard deviation over {seeds} seeds of noise" if seeds > 1 else ""
    )
    name = metric_name(row.metric)
    plain = (
        ""
        if name == "FID"
        else " This is not FID, and not comparable with published ones."
    )
    return (
        "A step is one evaluation of the network. "
        f"{name} of {row.num_generated:,} generated images to {row.num_real:,} real ones of "
        f"{row.reference}{over}; less is better. It compares features of "
        f"{extractor_name(row.extractor)}.{plain}"
    )
