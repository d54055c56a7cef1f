"""What is said of a combination: values on the test split, its record, the landscape around it."""

from __future__ import annotations

import logging
from typing import Any, get_args

import numpy as np
import pandas as pd
from pandas import DataFrame

from lct_pipeline.combination.selection import (
    NO_SEED,
    SCORES,
    Decision,
    best_rows,
    measured,
)
from lct_pipeline.combination.sources import Request
from lct_pipeline.combination.stage import TEST_SPLIT, Stage
from lct_pipeline.combination.weights import Members
from lct_pipeline.core.metrics.feature_sets import FeatureSet
from lct_pipeline.datasets.results import (
    Baseline,
    BaselineName,
    CombinationResult,
    Gain,
    Scores,
)
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.evaluation.evaluator import Evaluator
from lct_pipeline.evaluation.feature_spaces import FeatureSpace
from lct_pipeline.parameters import Evaluation
from lct_pipeline.progress import track
from lct_pipeline.reporting.verdict import conclude
from lct_pipeline.reporting.words import mean_text, number

BEYOND = 0.5  # how far a line, and the plane, of the landscape go on beyond their ends
Places = tuple[
    list[dict[str, Any]], np.ndarray
]  # of a landscape, and their coefficients

logger = logging.getLogger(__name__)


def report_on_test(
    stage: Stage, candidate_scores: DataFrame, evaluation: Evaluation
) -> DataFrame:
    """Return the best of each search, and each baseline, with scores and values on the test split.

    The values are also of metrics that were not searched by.
    """
    spaces = stage.spaces(TEST_SPLIT)
    count = evaluation.num_images or spaces[0].references[0].num_images
    evaluator, source = Evaluator(spaces), stage.task.source()
    best = best_rows(candidate_scores)
    about = ["name", "baseline", "method", "seed", "search_fitness", *SCORES]
    rows, request = [], Request("final", count, evaluation.seed)
    for _, row in track(list(best.iterrows()), "report on the test split", "model"):
        weights = stage.weights.state_dict(np.array(row["alpha"]))
        found = evaluator.features(source.batches(weights, request), count)
        values = {"split": TEST_SPLIT, "num_generated": count}
        for space, features in zip(spaces, found, strict=True):
            values |= _values(space, features)
        rows.append({**row[about], **values})
    return pd.DataFrame(rows)


def _values(space: FeatureSpace, found: FeatureSet) -> dict[str, Any]:
    extractor, (real,) = space.extractor, space.references
    values = {
        extractor.frechet_name: real.frechet_distance(found),
        extractor.kernel_name: real.kernel_distance(found).value,
    }
    if manifolds := real.manifold_metrics(found):
        prefix = extractor.name and f"{extractor.name}_"
        values[f"{prefix}precision"] = manifolds.precision
        values[f"{prefix}recall"] = manifolds.recall
    return values


def conclusion(
    stage: Stage, decision: Decision, report: DataFrame
) -> CombinationResult:
    """Return what was found, what it was compared with, and which of them is the model."""
    found, baseline, check = decision.found, decision.baseline, decision.check_gain
    compared = found["name"], baseline["name"]
    by_seed = dict(zip(compared, decision.by_seed, strict=True))
    rows = report.to_dict("records")
    scores = {
        row["name"]: Scores(
            search=row["search_fitness"]
            if np.isfinite(row["search_fitness"])
            else None,
            selection=row["selection_fitness"],
            decision=by_seed.get(row["name"]),
            test=row[stage.metric],
        )
        for row in rows
    }
    name_of = {row["baseline"]: row["name"] for row in rows}
    window = stage.members.window
    return CombinationResult(
        name=found["name"],
        method=found["method"],
        alpha=[float(a) for a in found["alpha"][: len(window)]],
        steps=window["step"].tolist(),
        checkpoints=window["name"].tolist(),
        digests=window["digest"].tolist(),
        metric=stage.metric,
        scores=scores[found["name"]],
        baselines={
            model: Baseline(name=name_of[model], scores=scores[name_of[model]])
            for model in get_args(BaselineName)
        },
        best_baseline=baseline["baseline"],
        seeds={
            str(row["seed"]): scores[row["name"]]
            for row in rows
            if row["method"] == found["method"] and row["seed"] != NO_SEED
        },
        gain=Gain.of_pair(decision.gain),
        check_gain=None if check is None else Gain.of_pair(check),
        is_selected=decision.is_combination,
        selected=decision.selected["name"],
        verdict=_verdict(decision),
        parameters=stage.parameters.model_dump(mode="json"),
    )


def _verdict(decision: Decision) -> str:
    found, baseline = decision.found, decision.baseline
    ours, theirs = map(mean_text, decision.by_seed)
    alpha = [float(a) for a in found["alpha"]]
    said = conclude(decision.gain, decision.check_gain, alpha, len(decision.by_seed[0]))
    kept = "" if decision.is_combination else " The best baseline is in its place."
    return (
        f"{said.headline} On the validation split, with noise that selected nothing, "
        f"{found['name']} is at {ours}, {baseline['name']}, the best baseline, at {theirs}. "
        f"{said.sentence}{kept}"
    )


def combined_model(stage: Stage, result: CombinationResult, alpha: Any) -> TensorFile:
    """Return the weights of what was selected."""
    kind = "combined" if result.is_selected else "baseline"
    said = result.model_dump(mode="json")
    return stage.model(alpha, result.selected, kind, combination=said)


def log_report(report: DataFrame, result: CombinationResult) -> None:
    """Log the verdict and a table for people, the best by its score first."""
    values = list(report.columns[report.columns.get_loc(result.metric) :])
    titles = ("test", "kernel", "precision", "recall", "check extractor")
    shown = {"name": "", "search_fitness": "search", "selection_fitness": "selection"}
    shown |= dict(zip(values, titles, strict=False))
    ordered = report.sort_values("selection_fitness", kind="stable")
    table = ordered[list(shown)].rename(columns=shown)
    text = table.to_string(index=False, na_rep="", float_format=number)
    logger.info("%s\n%s", result.verdict, text)


def measure_landscape(
    stage: Stage, candidate_scores: DataFrame, combination: CombinationResult
) -> DataFrame:
    """Return the fitness on the validation split along a line and over a plane.

    The line goes from the best EMA, x = 0, to the combination, x = 1. The plane is that of the
    first, the middle and the last checkpoint of the window (Liu et al. 2024): theta(x, y) =
    theta_0 + x (theta_1 - theta_0) + y (theta_2 - theta_0). What was scored on the same noise is
    not measured again.
    """
    parameters = stage.parameters
    alpha_of = best_rows(candidate_scores).set_index("name")["alpha"]
    start = np.array(alpha_of[combination.baselines["best_ema"].name])
    end = np.array(alpha_of[combination.name])
    rows, alphas = line(start, end, parameters.num_line_points)
    plane_rows, plane_alphas = plane(stage.members, parameters.landscape_size)
    rows, alphas = rows + plane_rows, np.concatenate([alphas, plane_alphas])
    scores = candidate_scores[["alpha", "selection_fitness"]].itertuples(index=False)
    fitness_of = {tuple(alpha): float(fitness) for alpha, fitness in scores}
    known = {
        n: fitness_of[tuple(a)] for n, a in enumerate(alphas) if tuple(a) in fitness_of
    }
    for place, score in measured(stage, alphas, known, "measure landscape", "point"):
        known[place] = score.fitness
    for n, row in enumerate(rows):
        row |= {"fitness": known[n], "metric": stage.metric}
    return DataFrame(rows, columns=["figure", "x", "y", "fitness", "metric"])


def line(start: np.ndarray, end: np.ndarray, num: int) -> Places:
    """Return ``num`` places along the line through two combinations."""
    places = np.linspace(-BEYOND, 1 + BEYOND, num)
    x = places[:, None]
    rows = [{"figure": "line", "x": place, "y": 0.0} for place in places]
    return rows, (1 - x) * start + x * end


def plane(members: Members, size: int) -> Places:
    """Return ``size`` x ``size`` places over three checkpoints."""
    axis = np.linspace(-BEYOND, 1 + BEYOND, size)
    y, x = (values.ravel() for values in np.meshgrid(axis, axis, indexing="ij"))
    alphas = np.zeros((len(x), len(members.rows)))
    num = members.window_size
    alphas[:, 0] += 1 - x - y
    alphas[:, num // 2] += x
    alphas[:, num - 1] += y
    rows = [{"figure": "plane", "x": x, "y": y} for x, y in zip(x, y, strict=True)]
    return rows, alphas
