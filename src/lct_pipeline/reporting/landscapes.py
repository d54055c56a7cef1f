"""Charts of the quality around a combination: along a line, and over three checkpoints."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from pandas import DataFrame

from lct_pipeline.datasets.results import CombinationResult
from lct_pipeline.reporting import theme
from lct_pipeline.reporting.words import metric_title, number

OFF = "This measurement is switched off: combination.{} = 0"

HALO = ", ".join(["0 0 4px white"] * 4)


def draw_line(landscape: DataFrame, combination: CombinationResult) -> go.Figure:
    """Return the fitness along the line from the best EMA, x = 0, to the combination, x = 1.

    Args:
        landscape: Rows of ``measure_landscape``; those of the line may be missing.
        combination: What ``select_combination`` found.
    """
    title = "Quality along the line from the best EMA to the combination"
    rows = landscape[landscape["figure"] == "line"].sort_values("x")
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


def draw_landscape(landscape: DataFrame, combination: CombinationResult) -> go.Figure:
    """Return the fitness over the plane of the first, the middle and the last checkpoint.

    Inside the triangle all coefficients are positive. Colours are logarithmic where the values are
    far apart.

    Args:
        landscape: Rows of ``measure_landscape``; those of the plane may be missing.
        combination: What ``select_combination`` found.
    """
    title = "Quality over the plane of three checkpoints"
    rows = landscape[landscape["figure"] == "plane"]
    if rows.empty:
        return theme.nothing(title, OFF.format("landscape_size"))
    figure = theme.chart(
        title,
        "validation split; theta = theta<sub>first</sub> + x (theta<sub>middle</sub> - "
        "theta<sub>first</sub>) + y (theta<sub>last</sub> - theta<sub>first</sub>)",
        xaxis=_axis("x: towards the middle checkpoint", rows["x"]),
        yaxis=_axis("y: towards the last checkpoint", rows["y"]),
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
    return figure.add_trace(_points(combination.steps, rows))


def _axis(title: str, places: pd.Series) -> dict[str, Any]:
    """Return an axis over the places of the grid."""
    return {"title": title, "range": _ends(places), "ticks": "outside"}


def _ends(places: pd.Series) -> list[float]:
    return [places.min(), places.max()]


def _contours(rows: DataFrame) -> go.Contour:
    grid = rows.pivot(index="y", columns="x", values="fitness")
    values, ticks = grid.to_numpy(), {}
    low, high = values.min(), values.max()
    if wide := theme.is_wide((low, high)):
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


def _points(steps: list[int], rows: DataFrame) -> go.Scatter:
    """Return the three checkpoints, their mean and the best of the grid, with their texts."""
    best = rows.iloc[rows["fitness"].argmin()]
    middle = steps[len(steps) // 2]
    points = [
        (0, 0, f"first: step {steps[0]}", "middle left", "circle"),
        (1, 0, f"middle: step {middle}", "middle right", "circle"),
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
    left, right = _ends(rows["x"])
    if best.x in (left, right):
        return "middle right" if best.x == left else "middle left"
    above = (best.y >= 0.5) != (best.y in _ends(rows["y"]))
    return "top center" if above else "bottom center"
