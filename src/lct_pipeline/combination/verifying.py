"""Final figures on the test split, and what follows from them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from pandas import DataFrame
from torch import Tensor

from lct_pipeline.combination.choosing import NO_SEED, best_rows
from lct_pipeline.combination.fitness import (
    RealFeatures,
    Request,
    features_of_source,
)
from lct_pipeline.combination.stage import FINAL_SPLIT, Stage
from lct_pipeline.core.metrics.frechet import FrechetReference
from lct_pipeline.core.metrics.kernel import kernel_distance
from lct_pipeline.core.metrics.manifolds import manifold_metrics
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.evaluation.references import CHECK
from lct_pipeline.models.features.extractors import FeatureExtractor
from lct_pipeline.parameters import Evaluation
from lct_pipeline.progress import track
from lct_pipeline.reporting.report.words import closer

logger = logging.getLogger(__name__)

CONTROL_METHODS = ("control", "random")


def verify_combination(
    stage: Stage, candidate_scores: DataFrame, evaluation: Evaluation
) -> tuple[DataFrame, TensorFile, dict[str, Any]]:
    """Return the report, the model that is kept, and the combination.

    The best of each search, and of each control, are measured with new noise against the test
    split, by metrics that were not searched too. Where the combination is no better there than the
    best control, the control is kept.
    """
    best = best_rows(candidate_scores)
    report = pd.DataFrame(_final_rows(best, stage, evaluation))
    combination = conclusion(report, best, stage)
    kept = best.loc[best["name"] == combination["kept"]].iloc[0]
    model = TensorFile(
        stage.weights.state_dict(np.array(kept["alpha"])),
        {
            "network": stage.task.network,
            "name": combination["kept"],
            "kind": "combined" if combination["gain_survives"] else "control",
            "combination": combination,
        },
    )
    logger.info("%s\n%s", combination["verdict"], as_text(report, stage.metric))
    return report, model, combination


def _final_rows(
    best: DataFrame, stage: Stage, evaluation: Evaluation
) -> Iterator[dict[str, Any]]:
    """Yield a row of final figures for each of the best, with its earlier scores."""
    count = evaluation.num_images or stage.reference(FINAL_SPLIT).statistics.num_images
    request = Request("final", count, evaluation.seed)
    source, judges = stage.task.source(), list(_judges(stage))
    extracts = [
        None if extractor is None else extractor.extract for extractor, _ in judges
    ]
    for _, row in track(list(best.iterrows()), "verify on the test split", "model"):
        source.load(stage.weights.state_dict(np.array(row["alpha"])))
        about = ["name", "control", "method", "seed", "search_fitness"]
        figures = {**row[[*about, "choice_fitness", "choice_frechet"]]}
        figures["split"], figures["num_generated"] = FINAL_SPLIT, count
        found = features_of_source(source, extracts, request)
        for features, (extractor, reference) in zip(found, judges, strict=True):
            figures |= _distances(features, reference, extractor)
        yield figures


def _judges(stage: Stage) -> Iterator[tuple[FeatureExtractor | None, RealFeatures]]:
    """Yield each feature extractor with what it finds in the test split."""
    yield stage.extractor, stage.reference(FINAL_SPLIT)
    if stage.check_extractor is not None:
        yield stage.check_extractor, stage.reference(FINAL_SPLIT, CHECK)


def _distances(
    features: Tensor, reference: RealFeatures, extractor: FeatureExtractor | None
) -> dict[str, float]:
    frechet = extractor.frechet_name if extractor else "frechet_distance"
    kernel = extractor.kernel_name if extractor else "kernel_distance"
    kept = features[: len(reference.features)]
    manifolds = manifold_metrics(reference.features, kept)
    prefix = f"{extractor.name}_" if extractor else ""
    distance = FrechetReference(reference.statistics).distance_of_features(features)
    return {
        frechet: distance,
        kernel: kernel_distance(features, reference.features).value,
        f"{prefix}precision": manifolds.precision,
        f"{prefix}recall": manifolds.recall,
    }


def conclusion(report: DataFrame, best: DataFrame, stage: Stage) -> dict[str, Any]:
    """Return the combination, what it was chosen by, and whether its gain survived.

    The combination is the best of all searches, and the control the best of all controls, by their
    choice scores; the test split decides between these two alone.
    """
    metric = stage.metric
    is_control = report["method"].isin(CONTROL_METHODS)
    if is_control.all():
        is_control = report["method"] == "control"
    by_choice = report.sort_values("choice_fitness", kind="stable")
    control = by_choice[is_control].iloc[0]
    ema = by_choice[by_choice["control"] == "best EMA"].iloc[0]
    found = by_choice[~is_control].iloc[0]
    survives = bool(found[metric] < control[metric])
    same = by_choice["method"] == found["method"]
    searches = by_choice[same & (by_choice["seed"] != NO_SEED)]
    alpha = best.loc[best["name"] == found["name"], "alpha"].iloc[0]
    window = stage.members.window
    return {
        "alpha": [float(a) for a in alpha[: stage.members.window_size]],
        "steps": window["step"].tolist(),
        "checkpoints": window["name"].tolist(),
        "digests": window["digest"].tolist(),
        "name": found["name"],
        "method": found["method"],
        "metric": metric,
        "scores": _scores(found, metric),
        "control": {"name": control["name"], "scores": _scores(control, metric)},
        "best_ema": {"name": ema["name"], "scores": _scores(ema, metric)},
        "seeds": {
            str(row["seed"]): _scores(row, metric) for _, row in searches.iterrows()
        },
        "gain_survives": survives,
        "kept": found["name"] if survives else control["name"],
        "verdict": _verdict(found, control, metric, survives),
        "parameters": stage.parameters.model_dump(mode="json"),
    }


def _scores(row: pd.Series, metric: str) -> dict[str, float | None]:
    searched = row["search_fitness"]
    return {
        "search": None if np.isnan(searched) else float(searched),
        "choice": float(row["choice_frechet"]),
        "final": float(row[metric]),
    }


def _verdict(found: pd.Series, control: pd.Series, metric: str, survives: bool) -> str:
    title = metric.replace("_", " ").capitalize().replace("frechet", "Frechet")
    figures = (
        f"{title} to the test split: {found[metric]:.3g} ({found['name']}), "
        f"{control[metric]:.3g} ({control['name']}, the best control)"
    )
    if survives:
        gain = closer(1 - found[metric] / control[metric])
        return f"By one seed of noise the combination is {gain}. {figures}."
    return (
        "The gain of the search does not survive on images and noise that it did not see: the best "
        f"control is kept as combined model. {figures}."
    )


def as_text(report: DataFrame, metric: str) -> str:
    """Return the report as a table for people, the best by its choice score first."""
    figures = list(report.columns[report.columns.get_loc(metric) :])
    titles = ("final", "kernel", "precision", "recall", "check extractor")
    shown = {"name": "", "search_fitness": "search", "choice_fitness": "choice"}
    shown |= dict(zip(figures, titles, strict=False))
    ordered = report.sort_values("choice_fitness", kind="stable")
    table = ordered[list(shown)].rename(columns=shown)
    return table.to_string(index=False, na_rep="", float_format="{:.3g}".format)
