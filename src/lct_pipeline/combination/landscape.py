"""What is behind the pictures of the landscape: along a line, and over three checkpoints."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import numpy as np
import pandas as pd
from pandas import DataFrame

from lct_pipeline.combination.candidates import best_rows
from lct_pipeline.combination.scoring import selection_request
from lct_pipeline.combination.stage import SELECTION_SPLIT, Stage
from lct_pipeline.combination.window import Members
from lct_pipeline.datasets.results import CombinationResult
from lct_pipeline.progress import track

BEYOND = 0.5  # how far the line, and the plane, go on beyond their ends


def measure_landscape(
    stage: Stage, candidate_scores: DataFrame, combination: CombinationResult
) -> DataFrame:
    """Return the fitness on the validation split along a line and over a plane.

    The line goes from the best EMA, x = 0, to the combination, x = 1. The plane is that of the
    first, the middle and the last checkpoint of the window (Liu et al. 2024): theta(x, y) =
    theta_0 + x (theta_1 - theta_0) + y (theta_2 - theta_0).
    """
    parameters = stage.parameters
    alpha_of = best_rows(candidate_scores).set_index("name")["alpha"]
    start = np.array(alpha_of[combination.baselines["best_ema"].name])
    end = np.array(alpha_of[combination.name])
    places, alphas = line(start, end, parameters.num_line_points)
    rows = [{"figure": "line", "x": x, "y": 0.0} for x in places]
    plane_rows, plane_alphas = plane(stage.members, parameters.landscape_size)
    rows, alphas = rows + plane_rows, np.concatenate([alphas, plane_alphas])
    columns = ["figure", "x", "y", "fitness", "metric"]
    if not rows:
        return pd.DataFrame(columns=columns)
    known = _scored_places(alphas, candidate_scores)
    population, left = parameters.search.population, len(rows) - len(known)
    with closing(stage.measurer(population, SELECTION_SPLIT)) as measurer:
        found = measurer.measure(
            alphas, selection_request(parameters), frozenset(known)
        )
        for place, score in track(found, "measure landscape", "point", total=left):
            known[place] = score.fitness
    values = {"metric": stage.metric}
    rows = [row | values | {"fitness": known[n]} for n, row in enumerate(rows)]
    return pd.DataFrame(rows, columns=columns)


def _scored_places(alphas: np.ndarray, candidate_scores: DataFrame) -> dict[int, float]:
    """Return the fitness of the places that were measured on the same noise already."""
    columns = candidate_scores[["alpha", "selection_fitness"]]
    scores = {tuple(a): float(f) for a, f in columns.itertuples(index=False)}
    places = {place: tuple(alpha) for place, alpha in enumerate(alphas)}
    return {n: scores[alpha] for n, alpha in places.items() if alpha in scores}


def line(start: np.ndarray, end: np.ndarray, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ``num`` places along the line through two combinations, and their coefficients."""
    places = np.linspace(-BEYOND, 1 + BEYOND, num)
    x = places[:, None]
    return places, (1 - x) * start + x * end


def plane(members: Members, size: int) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Return ``size`` x ``size`` places over three checkpoints, and their coefficients."""
    num = members.window_size
    axis = np.linspace(-BEYOND, 1 + BEYOND, size)
    rows, alphas = [], np.zeros((size * size, len(members.rows)))
    for number, (y, x) in enumerate((y, x) for y in axis for x in axis):
        rows.append({"figure": "plane", "x": x, "y": y})
        alphas[number, 0] += 1 - x - y
        alphas[number, num // 2] += x
        alphas[number, num - 1] += y
    return rows, alphas
