"""Charts of the searches over coefficients: progress, result, and the quality around it."""

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
OFF = "This measurement is switched off: combination.{} = 0"
UNMEASURED = "No point could be measured: see the log"
HALO = ", ".join(["0 0 4px white"] * 4)


@theme.of_plain_names
def draw_search_progress(search_history: DataFrame) -> go.Figure:
    """Return fitness over the spent budget: evaluations, a line and a star for each search.

    The evaluations of a generation stand where it was told. The axis ends a little above the best
    of the start and what the searches ended with; the subtitle counts the evaluations beyond.

    Args:
        search_history: Rows of ``search_combination``.
    """
    measured = search_history[np.isfinite(search_history["fitness"])]
    history = measured.sort_values("evaluation")
    initial = history[history["kind"] == "initial"]
    means = initial.groupby("name")["fitness"].mean()
    start = float(means.min())
    lines = [_progress(rows) for _, rows in history.groupby("search")]
    low, high = history["fitness"].min(), _highest_shown(history, lines, start)
    details = (
        f"on the {history['split'].iloc[0]} split; points: evaluations; "
        "stars: the mean that a search ends with"
    )
    if beyond := (history["fitness"] > high).sum():
        details += f"; {beyond} evaluations lie above the axis"
    if faults := len(search_history) - len(history):
        details += f"; {faults} could not be measured"
    figure = theme.chart(
        f"Search over the coefficients of {len(history['alpha'].iloc[0])} checkpoints",
        details,
        xaxis_title="budget spent (full evaluations)",
        yaxis={"title": _fitness_title(history), **theme.fitness_axis(low, high)},
    )
    figure.add_traces(lines)
    figure.add_scatter(
        x=[0, history["spent"].max()],
        y=[start, start],
        mode="lines",
        line={"dash": "dot", "color": theme.INK, "width": 2},
        name=f"best of the start: {means.idxmin()}, {number(start)}",
    )
    figure.add_traces(list(_evaluations(history)))
    return theme.name_once(figure)


def _evaluations(history: DataFrame) -> Iterator[go.Scatter]:
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


def _progress(of_search: DataFrame) -> go.Scatter:
    """Return what a search has reached, by the budget spent.

    That is the best so far. The steps of a gradient search are measured on new noise each, and the
    best of them is the luckiest: so there it is the median of the last steps.
    """
    method = of_search["method"].iloc[0]
    if method == "gradient":
        steps = of_search[of_search["kind"] == "candidate"].set_index("spent")
        line = steps["fitness"].rolling(MEDIAN_STEPS, min_periods=1).median()
        what, shape = f"median of {MEDIAN_STEPS} steps", "linear"
    else:
        searched = of_search[of_search["kind"] != "mean"]
        line = searched.groupby("spent")["fitness"].min().cummin()
        what, shape = "best so far", "hv"
    return go.Scatter(
        x=line.index,
        y=line,
        mode="lines",
        line={"color": theme.METHOD_COLORS[method], "width": 2.5, "shape": shape},
        name=f"{METHODS[method]}: {what}",
        legendgroup=METHODS[method],
    )


def _highest_shown(history: DataFrame, lines: list[go.Scatter], start: float) -> float:
    """Return where the axis ends: no outlier may stretch it."""
    means = history.loc[history["kind"] == "mean", "fitness"]
    ends = [*means, *(line.y[-1] for line in lines if len(line.y))]
    return min(1.1 * max([1.25 * start, *ends]), history["fitness"].max())


def _fitness_title(history: DataFrame) -> str:
    """Return what was searched by: a metric, or a sum in which it is weighted."""
    metric = metric_title(str(history["metric"].iloc[0]))
    if history["fitness"].equals(history["frechet"]):
        return metric
    return f"fitness: {metric} and kernel distance, weighted"


@theme.of_plain_names
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
    fate = "better than the best baseline on the validation split"
    if not combination.is_selected:
        fate = f"no better on the validation split: {combination.selected} in its place"
    figure = theme.chart(
        f"Coefficients of the combination, {fate}",
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
    for name, other, line in _other_lines(combination, by_score):
        figure.add_scatter(
            x=combination.steps,
            y=list(other[: len(combination.steps)]),
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
        line = {"color": theme.INK, "width": 2, "dash": "dot"}
        yield f"best baseline: {name}", alpha, line


@theme.of_plain_names
def draw_line(landscape: DataFrame, combination: CombinationResult) -> go.Figure:
    """Return the fitness along the line from the best EMA, x = 0, to the combination, x = 1.

    Args:
        landscape: Rows of ``measure_landscape``; those of the line may be missing.
        combination: What ``select_combination`` found.
    """
    title = "Quality along the line from the best EMA to the combination"
    is_drawn = (landscape["figure"] == "line") & np.isfinite(landscape["fitness"])
    rows = landscape[is_drawn].sort_values("x")
    if rows.empty:
        return theme.nothing(title, OFF.format("num_line_points"))
    fitness, best = rows["fitness"], rows.iloc[rows["fitness"].argmin()]
    name = metric_title(str(best.metric))
    ema = combination.baselines["best_ema"]
    figure = theme.chart(
        title,
        f"validation split; lowest {number(best.fitness)} at x = {best.x:.3g}; best EMA: "
        f"{ema.name}; combination: {combination.name}",
        xaxis_title="x: alpha = (1 - x) alpha<sub>EMA</sub> + x alpha<sub>combination</sub>",
        yaxis={"title": name, **theme.fitness_axis(fitness.min(), fitness.max())},
    )
    figure.add_scatter(
        x=rows["x"],
        y=fitness,
        line={"color": theme.GREY, "width": 2},
        mode="lines+markers",
        marker_size=8,
        name=name,
    )
    theme.mark_place(figure, 0, "best EMA", theme.INK)
    color = theme.METHOD_COLORS[combination.method]
    theme.mark_place(figure, 1, "combination", color)
    return figure


@theme.of_plain_names
def draw_landscape(landscape: DataFrame, combination: CombinationResult) -> go.Figure:
    """Return the fitness over the plane of the first, the middle and the last checkpoint.

    Inside the triangle all coefficients are positive. Colours are logarithmic where the values are
    far apart.

    Args:
        landscape: Rows of ``measure_landscape``; those of the plane may be missing.
        combination: What ``select_combination`` found.
    """
    title = "Quality over the plane of three checkpoints"
    rows = landscape[landscape["figure"] == "plane"].replace(np.inf, np.nan)
    if rows["fitness"].isna().all():
        reason = OFF.format("landscape_size") if rows.empty else UNMEASURED
        return theme.nothing(title, reason)
    x_axis, y_axis = (
        {"range": [rows[axis].min(), rows[axis].max()], "ticks": "outside"}
        for axis in "xy"
    )
    figure = theme.chart(
        title,
        "validation split; theta = theta<sub>first</sub> + x (theta<sub>middle</sub> - "
        "theta<sub>first</sub>) + y (theta<sub>last</sub> - theta<sub>first</sub>)",
        xaxis={"title": "x: towards the middle checkpoint", **x_axis},
        yaxis={"title": "y: towards the last checkpoint", **y_axis},
    )
    figure.add_trace(_contours(rows))
    figure.add_scatter(  # the edges between the three checkpoints
        x=[0, 1, 0, 0],
        y=[0, 0, 1, 0],
        mode="lines",
        line={"color": "white", "width": 1.5, "dash": "dot"},
        hoverinfo="skip",
        showlegend=False,
    )
    return figure.add_trace(_checkpoints(combination.steps, rows))


def _contours(rows: DataFrame) -> go.Contour:
    grid = rows.pivot(index="y", columns="x", values="fitness")
    values, ticks = grid.to_numpy(), {}
    low, high = np.nanmin(values), np.nanmax(values)
    if wide := theme.is_wide(low, high):
        ticks = theme.log_ticks(low, high)
        ticks["tickvals"] = np.log10(ticks["tickvals"])
    title = metric_title(str(rows["metric"].iloc[0]))
    return go.Contour(
        x=grid.columns,
        y=grid.index,
        z=np.log10(values) if wide else values,
        customdata=values,
        hovertemplate=f"x %{{x:.2f}}, y %{{y:.2f}}: {title} %{{customdata:.3g}}<extra></extra>",
        colorscale="Viridis",
        ncontours=20,
        line={"width": 0.5, "color": "rgba(255, 255, 255, 0.5)"},
        colorbar={"title": {"text": title, "side": "right"}, **ticks},
    )


def _checkpoints(steps: list[int], rows: DataFrame) -> go.Scatter:
    """Return the three checkpoints, their mean and the best of the grid, with their texts."""
    best = rows.iloc[int(np.nanargmin(rows["fitness"]))]
    points = [
        (0, 0, f"first: step {steps[0]}", "middle left", "circle"),
        (1, 0, f"middle: step {steps[len(steps) // 2]}", "middle right", "circle"),
        (0, 1, f"last: step {steps[-1]}", "middle left", "circle"),
        (1 / 3, 1 / 3, "uniform average", "middle right", "diamond"),
        (best.x, best.y, f"best: {number(best.fitness)}", _side(best, rows), "star"),
    ]
    x, y, texts, sides, symbols = zip(*points, strict=True)
    outline = {"color": "black", "width": 1.5}
    return go.Scatter(
        x=x,
        y=y,
        mode="markers+text",
        text=texts,
        textposition=sides,
        textfont={"color": "black", "shadow": HALO},
        marker={"symbol": symbols, "size": 12, "color": "white", "line": outline},
        cliponaxis=False,
        showlegend=False,
    )


def _side(best: pd.Series, rows: DataFrame) -> str:
    """Return where the text of the best point keeps clear of the others and of the edges."""
    if best.x == rows["x"].min():
        return "middle right"
    if best.x == rows["x"].max():
        return "middle left"
    is_at_edge = best.y in (rows["y"].min(), rows["y"].max())
    return "top center" if (best.y >= 0.5) != is_at_edge else "bottom center"
