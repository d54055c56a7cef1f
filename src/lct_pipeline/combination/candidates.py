"""What is selected among: the best of each search, and the two baselines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from pandas import DataFrame

from lct_pipeline.combination.baselines import initial_alphas
from lct_pipeline.combination.scoring import SCORES, with_scores
from lct_pipeline.combination.stage import Stage
from lct_pipeline.combination.window import Members
from lct_pipeline.datasets.parts import Last

NO_SEED = -1  # of what is not of one search
BASELINE = "baseline"  # in place of a method


def score_candidates(
    stage: Stage,
    search_history: DataFrame,
    ema_selection: DataFrame,
    previous: DataFrame,
) -> Iterator[DataFrame | Last[DataFrame]]:
    """Yield, again with each more, a row for each baseline and for the best of each search.

    Args:
        stage: What is combined, and how it is measured.
        search_history: Every evaluation of the searches.
        ema_selection: Scores of the averages: the best of them is a baseline.
        previous: Rows that an interrupted run left, which are not measured again.
    """
    rows = candidate_rows(stage, search_history, ema_selection)
    table = previous
    for table in with_scores(
        stage, rows, [previous, ema_selection], "score candidates"
    ):
        yield table
    yield Last(table)


def candidate_rows(
    stage: Stage, search_history: DataFrame, ema_selection: DataFrame
) -> list[dict[str, Any]]:
    """Return what is selected among: the baselines, then the best of each search."""
    members, num = stage.members, stage.parameters.selection.num_candidates
    initial = search_history[search_history["kind"] == "initial"]
    searched = initial.groupby("name", sort=False)["fitness"].mean()
    last = members.padded(initial_alphas(members, stage.parameters)["last"])
    ema = best_ema(ema_selection)
    rows = [
        _row(name, BASELINE, model, BASELINE, NO_SEED, alpha, searched.get(name))
        for model, name, alpha in (
            ("last", "last", last),
            ("best_ema", ema["name"], ema["alpha"]),
        )
    ]
    for _, of_search in proposals(search_history).groupby("search", sort=True):
        for found in best_of(of_search, num).to_dict("records"):
            about = (found["name"], found["kind"], None, found["method"], found["seed"])
            alpha = members.padded(np.array(found["alpha"]))
            rows.append(_row(*about, alpha, found["fitness"]))
    return rows + _mean_of_means(search_history, members)


def best_ema(ema_selection: DataFrame) -> dict[str, Any]:
    """Return the row of the average with the best score: the best EMA of the run."""
    best = ema_selection["selection_fitness"].to_numpy().argmin()
    return {str(k): v for k, v in ema_selection.iloc[int(best)].to_dict().items()}


def _mean_of_means(search_history: DataFrame, members: Members) -> list[dict[str, Any]]:
    """Return the mean of the search means of each method's searches, where there are several.

    What one search owes to its own noise cancels in part.
    """
    means = search_history[search_history["kind"] == "mean"]
    rows = []
    for method, found in means.groupby("method", sort=False):
        if len(found) > 1:
            alpha = members.padded(np.mean(np.stack(list(found["alpha"])), axis=0))
            name = f"{method}, mean of {len(found)} means"
            rows.append(_row(name, "mean", None, str(method), NO_SEED, alpha, None))
    return rows


def proposals(search_history: DataFrame) -> DataFrame:
    """Return what searches proposed, their means first."""
    proposed = search_history[search_history["kind"] == "candidate"]
    means = search_history[search_history["kind"] == "mean"]
    return pd.concat([means, proposed])


def best_of(of_search: DataFrame, num: int) -> DataFrame:
    """Return the ``num`` best rows of a search, its search mean always among them."""
    mean = of_search[of_search["kind"] == "mean"]
    others = of_search[of_search["kind"] != "mean"]
    best = others.sort_values("fitness", kind="stable").head(num - len(mean))
    return pd.concat([mean, best])


def _row(
    name: str,
    kind: str,
    baseline: str | None,
    method: str,
    seed: int,
    alpha: np.ndarray,
    fitness: float | None,
) -> dict[str, Any]:
    return {
        "name": name,
        "kind": kind,
        "baseline": baseline,
        "method": method,
        "seed": seed,
        "alpha": alpha,
        "search_fitness": np.nan if fitness is None else float(fitness),
    }


def best_rows(candidate_scores: DataFrame) -> DataFrame:
    """Return the best row of each search, and each baseline, by score."""
    scores = candidate_scores.sort_values(SCORES[0], kind="stable")
    of_search = scores["method"] + " " + scores["seed"].astype(str)
    best = scores.groupby(scores["baseline"].fillna(of_search), sort=False).head(1)
    return best.reset_index(drop=True)
