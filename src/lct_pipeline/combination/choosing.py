"""What is chosen among: the best of each search, and all controls, on the validation split."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from pandas import DataFrame

from lct_pipeline.combination.fitness import Request
from lct_pipeline.combination.members import Candidate, Members, controls
from lct_pipeline.combination.stage import CHOICE_SPLIT, Stage
from lct_pipeline.datasets.parts import Last
from lct_pipeline.parameters import Combination
from lct_pipeline.progress import track

NO_SEED = -1  # of what is not of one search
SCORES = ["choice_fitness", "choice_frechet"]


def score_candidates(
    stage: Stage,
    search_history: DataFrame,
    previous: DataFrame,
    posthoc_widths: tuple[float, ...],
) -> Iterator[DataFrame | Last[DataFrame]]:
    """Yield, again with each more, a row for each control and for the best of each search.

    Noise and images are others than those of the search: what fits only these falls back here.
    Rows that an interrupted run left are not measured again.
    """
    parameters = stage.parameters
    request = Request("choice", parameters.choice.num_images, parameters.seed)
    rows = candidate_rows(search_history, stage.members, parameters, posthoc_widths)
    about = {"num_images": request.num_images, "metric": stage.metric}
    rows = [row | {"place": place} | about for place, row in enumerate(rows)]
    scores = known_scores(previous, rows)
    yield _table(rows, scores)
    if len(scores) < len(rows):
        yield from _scored(stage, request, rows, scores)
    yield Last(_table(rows, scores))


def _scored(
    stage: Stage,
    request: Request,
    rows: list[dict[str, Any]],
    scores: dict[int, tuple[float, float]],
) -> Iterator[DataFrame]:
    """Measure the rows that have no score yet; yield the table after each."""
    alphas = np.stack([row["alpha"] for row in rows])
    measurer = stage.measurer(stage.parameters.search.population, CHOICE_SPLIT)
    try:
        found = measurer.measure(alphas, request, frozenset(scores))
        total = len(rows) - len(scores)
        for place, score in track(found, "choose", "candidate", total=total):
            scores[place] = (score.fitness, score.frechet)
            yield _table(rows, scores)
    finally:
        measurer.close()


def _table(
    rows: list[dict[str, Any]], scores: dict[int, tuple[float, float]]
) -> DataFrame:
    """Return the rows that are measured, with their scores."""
    measured = [
        rows[place] | dict(zip(SCORES, scores[place], strict=True))
        for place in sorted(scores)
    ]
    return pd.DataFrame(measured)


def candidate_rows(
    search_history: DataFrame,
    members: Members,
    parameters: Combination,
    posthoc_widths: tuple[float, ...],
) -> list[dict[str, Any]]:
    """Return what is chosen among: the controls, then the best of each search."""
    initial = search_history[search_history["kind"] == "initial"]
    searched = initial.groupby("name", sort=False)["fitness"].mean()
    rows = [
        _row(control, "control", NO_SEED, searched.get(control.name))
        for control in controls(members, parameters, posthoc_widths)
    ]
    for _, of_search in on_all_images(search_history).groupby("search", sort=True):
        for _, found in best_of(of_search, parameters.choice.num_candidates).iterrows():
            alpha = members.padded(np.array(found["alpha"]))
            candidate = Candidate(found["name"], found["kind"], None, alpha)
            seed, fitness = int(found["seed"]), float(found["fitness"])
            rows.append(_row(candidate, found["method"], seed, fitness))
    return rows + _mean_centres(search_history, members)


def _mean_centres(search_history: DataFrame, members: Members) -> list[dict[str, Any]]:
    """Return the mean of the centres of each method's searches, where there are several.

    What one search owes to its own noise cancels in part.
    """
    centres = search_history[search_history["kind"] == "centre"]
    rows = []
    for method, found in centres.groupby("method", sort=False):
        if len(found) > 1:
            alpha = members.padded(np.mean(np.stack(list(found["alpha"])), axis=0))
            name = f"{method}, mean of {len(found)} centres"
            candidate = Candidate(name, "centre", None, alpha)
            rows.append(_row(candidate, str(method), NO_SEED, None))
    return rows


def on_all_images(search_history: DataFrame) -> DataFrame:
    """Return what searches proposed, measured on as many images as they use at most."""
    proposed = search_history[search_history["kind"] == "candidate"]
    most = proposed.groupby("search")["num_images"].transform("max")
    centres = search_history[search_history["kind"] == "centre"]
    return pd.concat([centres, proposed[proposed["num_images"] == most]])


def best_of(of_search: DataFrame, num: int) -> DataFrame:
    """Return the ``num`` best rows of a search, its centre always among them."""
    centre = of_search[of_search["kind"] == "centre"]
    others = of_search[of_search["kind"] != "centre"]
    best = others.sort_values("fitness", kind="stable").head(num - len(centre))
    return pd.concat([centre, best])


def _row(
    candidate: Candidate, method: str, seed: int, fitness: float | None
) -> dict[str, Any]:
    return {
        "name": candidate.name,
        "kind": candidate.kind,
        "control": candidate.control,
        "method": method,
        "seed": seed,
        "alpha": candidate.alpha.tolist(),
        "search_fitness": np.nan if fitness is None else float(fitness),
    }


def known_scores(
    previous: DataFrame, rows: list[dict[str, Any]]
) -> dict[int, tuple[float, float]]:
    """Return the scores, by place, of the rows that were measured before in the same way."""
    by_name = {old["name"]: old for _, old in previous.iterrows()}
    known = {}
    for place, row in enumerate(rows):
        old = by_name.get(row["name"])
        if (
            old is not None
            and old["num_images"] == row["num_images"]
            and np.array_equal(old["alpha"], row["alpha"])
        ):
            fitness, frechet = old[SCORES]
            known[place] = (float(fitness), float(frechet))
    return known


def best_rows(candidate_scores: DataFrame) -> DataFrame:
    """Return the best row of each search and of each control, by its choice score."""
    scores = candidate_scores.sort_values("choice_fitness", kind="stable")
    group = scores["control"].fillna(
        scores["method"] + " " + scores["seed"].astype(str)
    )
    best = scores.groupby(group, sort=False).head(1)
    return best.reset_index(drop=True)
