"""Scores on the validation split, by which weights are selected: nothing is measured twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import pandas as pd
from pandas import DataFrame

from lct_pipeline.combination.fitness import Request
from lct_pipeline.combination.history import ORIGIN
from lct_pipeline.combination.stage import SELECTION_SPLIT, Stage
from lct_pipeline.parameters import Combination
from lct_pipeline.progress import track

# fitness and Frechet distance by number of the row
Scores = dict[int, tuple[float, float]]
SCORES = ["selection_fitness", "selection_frechet"]


def with_scores(
    stage: Stage,
    rows: list[dict[str, Any]],
    known: Sequence[DataFrame],
    title: str,
) -> Iterator[DataFrame]:
    """Yield the rows that have scores, again with each more, until all have.

    Noise and images are others than those of the search: what fits only these falls back here.

    Args:
        stage: What is combined, and how it is measured.
        rows: Each with its ``name`` and coefficients ``alpha``.
        known: Tables that were yielded before: what they have is not measured again.
        title: Of the progress.
    """
    parameters = stage.parameters
    request = selection_request(parameters)
    origin = selection_origin(stage)
    about = {
        "metric": stage.metric,
        "split": SELECTION_SPLIT,
        "num_images": request.num_images,
    }
    rows = [row | about for row in rows]
    scores = known_scores(known, rows, origin)
    yield _table(rows, scores, origin)
    if len(scores) == len(rows):
        return
    alphas = np.stack([row["alpha"] for row in rows])
    total, num_known = len(rows), frozenset(scores)
    with closing(
        stage.measurer(parameters.search.population, SELECTION_SPLIT)
    ) as measurer:
        found = measurer.measure(alphas, request, num_known)
        for place, score in track(found, title, "model", total=total - len(num_known)):
            scores[place] = (score.fitness, score.frechet)
            yield _table(rows, scores, origin)


def selection_request(parameters: Combination) -> Request:
    """Return the noise, and the number of images, by which weights are selected."""
    return Request("choice", parameters.selection.num_images, parameters.seed)


def selection_origin(stage: Stage) -> dict[str, Any]:
    """Return all that scores depend on, beside coefficients."""
    included: dict[str, Any] = dict.fromkeys(
        ("window", "generator", "references", "fitness", "seed"), True
    )
    included["selection"] = {"num_images": True}
    parameters = stage.parameters.model_dump(mode="json", include=included)
    return stage.origin(parameters, stage.members.rows)


def known_scores(
    known: Sequence[DataFrame], rows: list[dict[str, Any]], origin: dict[str, Any]
) -> Scores:
    """Return the scores of the rows that were measured before in the same way."""
    by_name = {
        old["name"]: old
        for table in known
        if table.attrs.get(ORIGIN) == origin
        for old in table.to_dict("records")
    }
    found = {}
    for place, row in enumerate(rows):
        old = by_name.get(row["name"])
        if old is not None and np.array_equal(old["alpha"], row["alpha"]):
            fitness, frechet = (old[name] for name in SCORES)
            found[place] = (float(fitness), float(frechet))
    return found


def _table(
    rows: list[dict[str, Any]], scores: Scores, origin: dict[str, Any]
) -> DataFrame:
    table = pd.DataFrame(
        rows[place] | dict(zip(SCORES, scores[place], strict=True))
        for place in sorted(scores)
    )
    table.attrs[ORIGIN] = origin
    return table
