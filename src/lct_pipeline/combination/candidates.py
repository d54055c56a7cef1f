"""What is selected among, and its scores on the validation split, none measured twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pandas import DataFrame

from lct_pipeline.combination.history import ORIGIN
from lct_pipeline.combination.sources import Request
from lct_pipeline.combination.stage import SELECTION_SPLIT, Stage
from lct_pipeline.datasets.parts import Last
from lct_pipeline.parameters import Combination
from lct_pipeline.progress import track

NO_SEED = -1  # of what is not of one search
SCORES = ["selection_fitness", "selection_frechet"]


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
    known, table = [previous, ema_selection], previous
    for table in with_scores(stage, rows, known, "score candidates"):
        yield table
    yield Last(table)


def with_scores(
    stage: Stage, rows: list[dict[str, Any]], known: Sequence[DataFrame], title: str
) -> Iterator[DataFrame]:
    """Yield the rows that have scores, again with each more, until all have.

    Noise and images are others than those of the search: what fits only these falls back here.

    Args:
        stage: What is combined, and how it is measured.
        rows: Each with its ``name`` and coefficients ``alpha``.
        known: Tables that were yielded before: what they have is not measured again.
        title: Of the progress.
    """
    request, origin = selection_request(stage.parameters), _origin(stage)
    measured_by = {
        "metric": stage.metric,
        "split": SELECTION_SPLIT,
        "num_images": request.num_images,
    }
    scores = _known_scores(rows, [t for t in known if t.attrs.get(ORIGIN) == origin])

    def table() -> DataFrame:
        complete = [rows[n] | measured_by | scores[n] for n in sorted(scores)]
        found = DataFrame(complete)
        found.attrs[ORIGIN] = origin
        return found

    yield table()
    if left := len(rows) - len(scores):
        alphas = np.stack([row["alpha"] for row in rows])
        with stage.measuring(SELECTION_SPLIT) as measure:
            found = measure(alphas, request, frozenset(scores))
            for place, score in track(found, title, "model", total=left):
                values = (score.fitness, score.frechet)
                scores[place] = dict(zip(SCORES, values, strict=True))
                yield table()


def selection_request(parameters: Combination) -> Request:
    """Return the noise, and the number of images, by which weights are selected."""
    return Request("choice", parameters.selection.num_images, parameters.seed)


def _origin(stage: Stage) -> dict[str, Any]:
    """Return all that scores depend on, beside coefficients."""
    included = {"window", "generator", "references", "fitness", "seed"}
    parameters = stage.parameters.model_dump(mode="json", include=included)
    parameters["selection"] = {"num_images": stage.parameters.selection.num_images}
    return stage.origin(parameters, stage.members.rows)


def _known_scores(
    rows: list[dict[str, Any]], known: Sequence[DataFrame]
) -> dict[int, dict[str, float]]:
    """Return scores, by the place of the row, of names whose coefficients are the same."""
    found = {}
    for old in (old for table in known for old in table.to_dict("records")):
        for place, row in enumerate(rows):
            if old["name"] == row["name"] and np.array_equal(
                old["alpha"], row["alpha"]
            ):
                found[place] = {name: float(old[name]) for name in SCORES}
    return found


def candidate_rows(
    stage: Stage, search_history: DataFrame, ema_selection: DataFrame
) -> list[dict[str, Any]]:
    """Return what is selected among: the baselines, then the best of each search.

    The mean of the search means of one method is among them too: what one search owes to its own
    noise cancels in part.
    """
    members, num = stage.members, stage.parameters.selection.num_candidates
    initial = search_history[search_history["kind"] == "initial"]
    searched = initial.groupby("name")["fitness"].mean()
    last, ema = stage.initial["last"], best_ema(ema_selection)
    rows = [
        _row(name, "baseline", model, "baseline", NO_SEED, alpha, searched.get(name))
        for model, name, alpha in (
            ("last", "last", members.padded(last)),
            ("best_ema", ema["name"], ema["alpha"]),
        )
    ]
    proposed = search_history[search_history["kind"] != "initial"]
    for _, of_search in proposed.groupby("search", sort=True):
        for found in best_of(of_search, num).to_dict("records"):
            name, kind, method, seed = map(
                found.get, ("name", "kind", "method", "seed")
            )
            alpha = members.padded(np.array(found["alpha"]))
            rows.append(_row(name, kind, None, method, seed, alpha, found["fitness"]))
    means = search_history[search_history["kind"] == "mean"]
    for method, several in means.groupby("method", sort=False):
        if len(several) > 1:
            alpha = members.padded(np.mean(np.stack(list(several["alpha"])), axis=0))
            name = f"{method!s}, mean of {len(several)} means"
            rows.append(_row(name, "mean", None, str(method), NO_SEED, alpha, None))
    return rows


def _row(*values: Any) -> dict[str, Any]:
    """Return a candidate; it has no fitness where no search measured it."""
    columns = ("name", "kind", "baseline", "method", "seed", "alpha", "search_fitness")
    row = dict(zip(columns, values, strict=True))
    searched = row["search_fitness"]
    return row | {"search_fitness": np.nan if searched is None else float(searched)}


def best_ema(ema_selection: DataFrame) -> dict[str, Any]:
    """Return the row of the average with the best score: the best EMA of the run."""
    best = ema_selection[SCORES[0]].to_numpy().argmin()
    return {str(k): v for k, v in ema_selection.iloc[int(best)].to_dict().items()}


def best_of(of_search: DataFrame, num: int) -> DataFrame:
    """Return the ``num`` best rows of a search, its search mean always among them."""
    is_mean = of_search["kind"] == "mean"
    by_fitness = of_search[~is_mean].sort_values("fitness", kind="stable")
    return pd.concat([of_search[is_mean], by_fitness.head(num - is_mean.sum())])


def best_rows(candidate_scores: DataFrame) -> DataFrame:
    """Return the best row of each search, and each baseline, by score."""
    scores = candidate_scores.sort_values(SCORES[0], kind="stable")
    of_search = scores["method"] + " " + scores["seed"].astype(str)
    best = scores.groupby(scores["baseline"].fillna(of_search), sort=False).head(1)
    return best.reset_index(drop=True)
