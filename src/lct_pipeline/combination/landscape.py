"""What is behind the pictures of the landscape: along a line, and over three checkpoints."""

from __future__ import annotations

from typing import Any

import numpy as np
from pandas import DataFrame

from lct_pipeline.combination.candidates import best_rows, selection_request
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
    if left := len(rows) - len(known):
        with stage.measuring(SELECTION_SPLIT) as measure:
            found = measure(alphas, selection_request(parameters), frozenset(known))
            for place, score in track(found, "measure landscape", "point", total=left):
                known[place] = score.fitness
    for n, row in enumerate(rows):
        row |= {"fitness": known[n], "metric": stage.metric}
    return DataFrame(rows, columns=["figure", "x", "y", "fitness", "metric"])


Places = tuple[list[dict[str, Any]], np.ndarray]  # and their coefficients


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
