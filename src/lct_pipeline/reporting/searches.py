"""Charts of the searches over coefficients: their progress, and what they found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from pandas import DataFrame

from lct_pipeline.datasets.results import CombinationResult
from lct_pipeline.reporting import theme
from lct_pipeline.reporting.words import METHODS, metric_title, number

MEDIAN_STEPS = 5  # of the gradient search, whose single steps are noisy
MARKS: dict[str, dict[str, Any]] = {
    "initial": {"size": 4, "opacity": 0.4, "color": theme.GREY},  # all methods share it
    "candidate": {"size": 4, "opacity": 0.3},
    "mean": {"size": 13, "symbol": "star", "line": {"color": "black", "width": 1}},
}


def draw_search_progress(search_history: DataFrame) -> go.Figure:
    """Return fitness over the spent budget: evaluations, a line and a star for each search.

    The evaluations of a generation stand where it was told. The axis ends a little above the best
    of the start and what the searches ended with; the subtitle counts the evaluations beyond.

    Args:
        search_history: Rows of ``search_combination``.
    """
    history = search_history.sort_values("evaluation")
    name, start = _best_of_start(history)
    lines = {str(key): _line(rows) for key, rows in history.groupby("search")}
    low, high = history["fitness"].min(), _highest_shown(history, lines, start)
    figure = theme.chart(
        f"Search over the coefficients of {len(history['alpha'].iloc[0])} checkpoints",
        _progress_details(history, high),
        xaxis_title="budget spent (full evaluations)",
        yaxis={"title": _fitness_title(history), **theme.fitness_axis(low, high)},
    )
    figure.add_traces(list(_lines(history, lines)))
    figure.add_scatter(
        x=[0, history["spent"].max()],
        y=[start, start],
        mode="lines",
        line={"dash": "dot", "color": theme.INK, "width": 2},
        name=f"best of the start: {name}, {number(start)}",
    )
    figure.add_traces(list(_marks(history)))
    return theme.name_once(figure)


def _best_of_start(history: DataFrame) -> tuple[str, float]:
    """Return the best initial candidate and its fitness, the mean over all searches."""
    initial = history[history["kind"] == "initial"]
    means = initial.groupby("name")["fitness"].mean()
    return str(means.idxmin()), float(means.min())


def _line(of_search: DataFrame) -> pd.Series:
    """Return what a search has reached, by the budget spent.

    That is the best so far. The steps of a gradient search are measured on new noise each, and the
    best of them is the luckiest: so there it is the median of the last steps.
    """
    if of_search["method"].iloc[0] == "gradient":
        steps = of_search[of_search["kind"] == "candidate"].set_index("spent")
        return steps["fitness"].rolling(MEDIAN_STEPS, min_periods=1).median()
    searched = of_search[of_search["kind"] != "mean"]
    return searched.groupby("spent")["fitness"].min().cummin()


def _highest_shown(
    history: DataFrame, lines: dict[str, pd.Series], start: float
) -> float:
    """Return where the axis ends: no outlier may stretch it."""
    means = history.loc[history["kind"] == "mean", "fitness"]
    ends = pd.concat([*(line.tail(1) for line in lines.values()), means])
    return min(1.1 * max(1.25 * start, ends.max()), history["fitness"].max())


def _progress_details(history: DataFrame, high: float) -> str:
    details = (
        f"on the {history['split'].iloc[0]} split; points: evaluations; "
        "stars: the mean that a search ends with"
    )
    beyond = int((history["fitness"] > high).sum())
    return f"{details}; {beyond} evaluations lie above the axis" if beyond else details


def _fitness_title(history: DataFrame) -> str:
    """Return what was searched by: a metric, or a sum in which it is weighted."""
    metric = metric_title(str(history["metric"].iloc[0]))
    if history["fitness"].equals(history["frechet"]):
        return metric
    return f"fitness: {metric} and kernel distance, weighted"


def _marks(history: DataFrame) -> Iterator[go.Scatter]:
    """Yield the evaluations of each kind and method."""
    for (kind, method), rows in history.groupby(["kind", "method"], sort=False):
        yield go.Scatter(
            x=rows["spent"],
            y=rows["fitness"],
            mode="markers",
            marker={"color": theme.METHOD_COLORS[str(method)], **MARKS[str(kind)]},
            text=rows["name"],
            name=kind,
            legendgroup=METHODS[str(method)],
            showlegend=False,
        )


def _lines(history: DataFrame, lines: dict[str, pd.Series]) -> Iterator[go.Scatter]:
    """Yield the line of each search."""
    methods = history.groupby("search")["method"].first()
    for line, method in zip(lines.values(), methods, strict=True):
        gradient = method == "gradient"
        what = f"median of {MEDIAN_STEPS} steps" if gradient else "best so far"
        shape = "linear" if gradient else "hv"
        yield go.Scatter(
            x=line.index,
            y=line,
            mode="lines",
            line={"color": theme.METHOD_COLORS[method], "width": 2.5, "shape": shape},
            name=f"{METHODS[method]}: {what}",
            legendgroup=METHODS[method],
        )


def draw_coefficients(
    combination: CombinationResult, candidate_scores: DataFrame
) -> go.Figure:
    """Return coefficients over steps: of the combination, of other searches, of the best baseline.

    Args:
        combination: What ``select_combination`` found.
        candidate_scores: Rows of ``score_candidates``; of each other search the best is drawn. A
            baseline made of averages alone has no coefficients to draw.
    """
    alpha = np.array(combination.alpha)
    figure = theme.chart(
        f"Coefficients of the combination, {_fate(combination)}",
        f"sum {alpha.sum():.3f}, sum of |alpha| {np.abs(alpha).sum():.2f}, "
        f"largest |alpha| {np.abs(alpha).max():.2f}",
        xaxis_title="training step of the checkpoint",
        yaxis_title="coefficient alpha",
        bargap=0.25,
    )
    figure.add_bar(
        x=combination.steps,
        y=combination.alpha,
        marker_color=theme.METHOD_COLORS[combination.method],
        opacity=0.5,
        name=f"combination: {combination.name}",
    )
    by_score = candidate_scores.sort_values("selection_fitness", kind="stable")
    for name, alpha, line in _other_lines(combination, by_score):
        figure.add_scatter(
            x=combination.steps,
            y=list(alpha[: len(combination.steps)]),
            mode="lines",
            line=line,
            name=name,
        )
    return theme.name_once(figure)


def _other_lines(
    combination: CombinationResult, by_score: DataFrame
) -> Iterator[tuple[str, np.ndarray, dict[str, Any]]]:
    """Yield name, coefficients and line of the best of each other search, and of the baseline."""
    searched = by_score[by_score["method"].isin(list(theme.METHOD_COLORS))]
    for _, of_search in searched.groupby(["method", "seed"], sort=False):
        best = of_search.iloc[0]
        if combination.name not in set(of_search["name"]):
            line = {"color": theme.METHOD_COLORS[best["method"]], "width": 1}
            yield f"other search: {METHODS[best['method']]}", best["alpha"], line
    name = combination.baseline.name
    alpha = by_score.loc[by_score["name"] == name, "alpha"].iloc[0]
    if np.any(alpha[: len(combination.steps)]):
        yield (
            f"best baseline: {name}",
            alpha,
            {"color": theme.INK, "width": 2, "dash": "dot"},
        )


def _fate(combination: CombinationResult) -> str:
    if combination.is_selected:
        return "better than the best baseline on the validation split"
    return f"no better on the validation split: {combination.selected} in its place"
