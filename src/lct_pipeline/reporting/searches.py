"""Figures of the searches over coefficients: their progress, and what they found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from pandas import DataFrame

from lct_pipeline.datasets.results import CombinationResult
from lct_pipeline.reporting.fitness_axes import (
    BASELINE_COLOR,
    METHOD_COLORS,
    METHOD_TITLES,
    fitness_axis,
    fitness_title,
)

MEDIAN_STEPS = 5  # of the gradient search, whose single steps are noisy
MARKS: dict[str, dict[str, Any]] = {
    "initial": {"size": 4, "opacity": 0.4, "color": "#888888"},  # all methods share it
    "candidate": {"size": 4, "opacity": 0.3},
    "mean": {"size": 13, "symbol": "star", "line": {"color": "black", "width": 1}},
}


def draw_search_progress(search_history: DataFrame) -> Any:
    """Return fitness over the spent budget: evaluations, a line and a star for each search.

    The evaluations of a generation are spread over what it has spent; lines and search means stand
    where it was told. The axis ends a little above the best of the start and what the searches
    ended with; the subtitle says how many evaluations lie beyond.

    Args:
        search_history: Rows of ``search_combination``. Of candidates that were evaluated on fewer
            images first, only the evaluation on all is shown.
    """
    history = _proposals(search_history)
    name, start = _best_of_start(history)
    points = [*_marks(history, "initial"), *_marks(history, "candidate")]
    figure = go.Figure(points + list(_lines(history)))
    figure.add_scatter(
        x=[0, history["spent"].max()],
        y=[start, start],
        mode="lines",
        line={"dash": "dot", "color": BASELINE_COLOR, "width": 2},
        name=f"best of the start: {name}, {start:.3g}",
    )
    figure.add_traces(list(_marks(history, "mean")))
    low, high = history["fitness"].min(), _highest_shown(history, start)
    figure.update_layout(
        title=_progress_title(history, high),
        xaxis_title="budget spent (full evaluations)",
        yaxis={"title": fitness_title(history), **fitness_axis(low, high)},
        template="plotly_white",
        legend={"orientation": "h", "y": -0.17},
    )
    return figure


def draw_coefficients(
    combination: CombinationResult, candidate_scores: DataFrame
) -> Any:
    """Return coefficients over steps: of the combination, of other searches, of the best baseline.

    Args:
        combination: What ``select_combination`` found.
        candidate_scores: Rows of ``score_candidates``; of each other search the best is drawn. A
            baseline made of averages alone has no coefficients to draw.
    """
    by_score = candidate_scores.sort_values("selection_fitness", kind="stable")
    others = _other_lines(combination, by_score)
    baseline = _baseline_line(combination, by_score)
    bars = go.Bar(
        x=combination.steps,
        y=combination.alpha,
        marker_color=METHOD_COLORS[combination.method],
        opacity=0.5,
        name=f"combination: {combination.name}",
    )
    figure = go.Figure([bars, *others, *baseline])
    figure.update_layout(
        title=_coefficients_title(combination),
        xaxis_title="training step of the checkpoint",
        yaxis_title="coefficient alpha",
        template="plotly_white",
        bargap=0.25,
        legend={"orientation": "h", "y": -0.17},
    )
    return figure


def _proposals(history: DataFrame) -> DataFrame:
    """Return the rows with the most images of their generation, and their place in the budget."""
    generation = ["search", "generation"]
    most = history.groupby(generation)["num_images"].transform("max")
    full = history[history["num_images"] == most].sort_values("evaluation")
    told = full.groupby(generation)["spent"].first()
    before = told.groupby("search").shift(fill_value=0.0).rename("before")
    full = full.join(before, on=generation)
    of_generation = full.groupby(generation)["spent"]
    share = (of_generation.cumcount() + 1) / of_generation.transform("size")
    return full.assign(place=full["before"] + share * (full["spent"] - full["before"]))


def _best_of_start(history: DataFrame) -> tuple[str, float]:
    """Return the best initial candidate and its fitness, the mean over all searches."""
    initial = history[history["kind"] == "initial"]
    means = initial.groupby("name")["fitness"].mean()
    return str(means.idxmin()), float(means.min())


def _highest_shown(history: DataFrame, start: float) -> float:
    """Return where the axis ends: no outlier may stretch it."""
    lines = [_line(of_search) for _, of_search in history.groupby("search")]
    means = history.loc[history["kind"] == "mean", "fitness"]
    ends = pd.concat([*(line.tail(1) for line in lines), means])
    return min(1.1 * max(1.25 * start, ends.max()), history["fitness"].max())


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


def _marks(history: DataFrame, kind: str) -> Iterator[go.Scatter]:
    """Yield the evaluations of one kind for each method."""
    rows = history[history["kind"] == kind]
    for method, of_method in rows.groupby("method", sort=False):
        yield go.Scatter(
            x=of_method["place"],
            y=of_method["fitness"],
            mode="markers",
            marker={"color": METHOD_COLORS[str(method)], **MARKS[kind]},
            text=of_method["name"],
            name=kind,
            legendgroup=METHOD_TITLES[str(method)],
            showlegend=False,
        )


def _lines(history: DataFrame) -> Iterator[go.Scatter]:
    """Yield a line for each search; the first of each method stands in the legend."""
    first = set(history.groupby("method")["search"].min())
    for search, of_search in history.groupby("search"):
        method, line = str(of_search["method"].iloc[0]), _line(of_search)
        color, title = METHOD_COLORS[method], METHOD_TITLES[method]
        shape, what = "hv", "best so far"
        if method == "gradient":
            shape, what = "linear", f"median of {MEDIAN_STEPS} steps"
        yield go.Scatter(
            x=line.index,
            y=line,
            mode="lines",
            line={"color": color, "width": 2.5, "shape": shape},
            name=f"{title}: {what}",
            legendgroup=title,
            showlegend=search in first,
        )


def _progress_title(history: DataFrame, high: float) -> str:
    beyond = int((history["fitness"] > high).sum())
    details = [
        f"on the {history['split'].iloc[0]} split",
        "points: evaluations",
        "stars: the mean that a search ends with",
    ]
    if beyond:
        details.append(f"{beyond} evaluations lie above the axis")
    num = len(history["alpha"].iloc[0])
    title = f"Search over the coefficients of {num} checkpoints"
    return f"{title}<br><sub>{'; '.join(details)}</sub>"


def _other_lines(
    combination: CombinationResult, by_score: DataFrame
) -> Iterator[go.Scatter]:
    """Yield the best of each search but the one that gave the combination."""
    searched = by_score[by_score["method"].isin(list(METHOD_COLORS))]
    titled: set[str] = set()
    for _, of_search in searched.groupby(["method", "seed"], sort=False):
        if combination.name in set(of_search["name"]):
            continue
        best = of_search.iloc[0]
        title = f"other search: {METHOD_TITLES[best['method']]}"
        line = {"color": METHOD_COLORS[best["method"]], "width": 1}
        trace = _coefficient_line(combination, best["alpha"], title, line)
        yield trace.update(legendgroup=title, showlegend=title not in titled)
        titled.add(title)


def _baseline_line(
    combination: CombinationResult, by_score: DataFrame
) -> Iterator[go.Scatter]:
    """Yield the best baseline, unless it is made of averages alone."""
    name = combination.baseline.name
    alpha = by_score.loc[by_score["name"] == name, "alpha"].iloc[0]
    if np.any(alpha[: len(combination.steps)]):
        line = {"color": BASELINE_COLOR, "width": 2, "dash": "dot"}
        yield _coefficient_line(combination, alpha, f"best baseline: {name}", line)


def _coefficient_line(
    combination: CombinationResult, alpha: Any, name: str, line: dict[str, Any]
) -> go.Scatter:
    steps = combination.steps
    return go.Scatter(
        x=steps, y=list(alpha[: len(steps)]), mode="lines", line=line, name=name
    )


def _coefficients_title(combination: CombinationResult) -> str:
    alpha = np.array(combination.alpha)
    if combination.is_selected:
        fate = "better than the best baseline on the validation split"
    else:
        fate = f"no better on the validation split: {combination.selected} in its place"
    return (
        f"Coefficients of the combination, {fate}<br><sub>sum {alpha.sum():.3f}, "
        f"sum of |alpha| {np.abs(alpha).sum():.2f}, largest |alpha| {np.abs(alpha).max():.2f}</sub>"
    )
