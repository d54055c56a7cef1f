"""The values on the test split, which are reported alone, and the record of a combination."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd
from pandas import DataFrame

from lct_pipeline.combination.candidates import NO_SEED, best_rows
from lct_pipeline.combination.selection import Decision
from lct_pipeline.combination.stage import TEST_SPLIT, Stage
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

logger = logging.getLogger(__name__)

NOISE = "final"  # nothing else is measured on it


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
    about = ["name", "baseline", "method", "seed", "search_fitness"]
    about += ["selection_fitness", "selection_frechet"]
    rows = []
    for _, row in track(list(best.iterrows()), "report on the test split", "model"):
        source.load(stage.weights.state_dict(np.array(row["alpha"])))
        found = evaluator.features(source.batches(count, evaluation.seed, NOISE), count)
        values = {"split": TEST_SPLIT, "num_generated": count}
        for space, features in zip(spaces, found, strict=True):
            values |= _values(space, features)
        rows.append({**row[about], **values})
    return pd.DataFrame(rows)


def _values(space: FeatureSpace, found: FeatureSet) -> dict[str, Any]:
    extractor, (real,) = space.extractor, space.references
    manifolds = real.manifold_metrics(found)
    prefix = extractor.name and f"{extractor.name}_"
    return {
        extractor.frechet_name: real.frechet_distance(found),
        extractor.kernel_name: real.kernel_distance(found).value,
        f"{prefix}precision": manifolds.precision,
        f"{prefix}recall": manifolds.recall,
    }


def combined_model(stage: Stage, result: CombinationResult, alpha: Any) -> TensorFile:
    """Return the weights of what was selected."""
    kind = "combined" if result.is_selected else "baseline"
    said = result.model_dump(mode="json")
    return stage.model(alpha, result.selected, kind, combination=said)


def conclusion(
    stage: Stage, decision: Decision, report: DataFrame
) -> CombinationResult:
    """Return what was found, what it was compared with, and which of them is the model."""
    found, metric, check = decision.found, stage.metric, decision.check_gain
    by_seed = {
        found["name"]: decision.by_seed[0],
        decision.baseline["name"]: decision.by_seed[1],
    }
    scores = {
        str(row["name"]): _scores(row, metric, by_seed.get(row["name"]))
        for _, row in report.iterrows()
    }
    name_of = report.set_index("baseline")["name"]
    models: tuple[BaselineName, ...] = ("last", "best_ema")
    same = (report["method"] == found["method"]) & (report["seed"] != NO_SEED)
    window, size = stage.members.window, stage.members.window_size
    return CombinationResult(
        name=found["name"],
        method=found["method"],
        alpha=[float(a) for a in found["alpha"][:size]],
        steps=window["step"].tolist(),
        checkpoints=window["name"].tolist(),
        digests=window["digest"].tolist(),
        metric=metric,
        scores=scores[found["name"]],
        baselines={
            model: Baseline(name=name_of[model], scores=scores[name_of[model]])
            for model in models
        },
        best_baseline=decision.baseline["baseline"],
        seeds={
            str(seed): scores[name]
            for name, seed in zip(
                report["name"][same], report["seed"][same], strict=True
            )
        },
        gain=Gain.of_pair(decision.gain),
        check_gain=None if check is None else Gain.of_pair(check),
        is_selected=decision.is_combination,
        selected=decision.selected["name"],
        verdict=_verdict(decision),
        parameters=stage.parameters.model_dump(mode="json"),
    )


def _scores(row: pd.Series, metric: str, decision: list[float] | None) -> Scores:
    searched = row["search_fitness"]
    return Scores(
        search=None if np.isnan(searched) else float(searched),
        selection=float(row["selection_fitness"]),
        decision=decision,
        test=float(row[metric]),
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
