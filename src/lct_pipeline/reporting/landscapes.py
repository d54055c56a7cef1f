"""Charts of the quality around a combination: along a line, and over three checkpoints."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from pandas import DataFrame

from lct_pipeline.datasets.results import CombinationResult
from lct_pipeline.reporting.theme import (
    GREY,
    INK,
    METHOD_COLORS,
    chart,
    fitness_axis,
    is_wide,
    log_ticks,
    mark_place,
    nothing,
)
from lct_pipeline.reporting.words import metric_title, number

OFF = "This measurement is switched off: combination.{} = 0"
HALO = "rgba(255, 255, 255, 0.75)"
SIDES: dict[str, dict[str, Any]] = {
    "left": {"xanchor": "right", "xshift": -12},
    "right": {"xanchor": "left", "xshift": 12},
    "top": {"yanchor": "bottom", "yshift": 12, "xanchor": "center"},
    "bottom": {"yanchor": "top", "yshift": -12, "xanchor": "center"},
}  # of a point, where its text stands


def draw_line(landscape: DataFrame, combination: CombinationResult) -> go.Figure:
    """Return the fitness along the line from the best EMA, x = 0, to the combination, x = 1.

    Args:
        landscape: Rows of ``measure_landscape``; those of the line may be missing.
        combination: What ``select_combination`` found.
    """
    title = "Quality along the line from the best EMA to the combination"
    rows = landscape[landscape["figure"] == "line"].sort_values("x")
    if rows.empty:
        return nothing(title, OFF.format("num_line_points"))
    fitness, best = rows["fitness"], rows.iloc[rows["fitness"].argmin()]
    name = metric_title(str(best.metric))
    ema, color = combination.baselines["best_ema"], METHOD_COLORS[combination.method]
    figure = chart(
        title,
        f"validation split; lowest {number(best.fitness)} at x = {best.x:.3g}; best EMA: "
        f"{ema.name}; combination: {combination.name}",
        xaxis_title="x: alpha = (1 - x) alpha<sub>EMA</sub> + x alpha<sub>combination</sub>",
        yaxis={"title": name, **fitness_axis(fitness.min(), fitness.max())},
    )
    figure.add_scatter(
        x=rows["x"],
        y=fitness,
        line={"color": GREY, "width": 2},
        mode="lines+markers",
        marker_size=8,
        name=name,
    )
    mark_place(figure, 0, "best EMA", INK)
    mark_place(figure, 1, "combination", color)
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
        return nothing(title, OFF.format("landscape_size"))
    figure = chart(
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
    _mark_checkpoints(figure, combination.steps)
    _mark_best(figure, rows)
    return figure


def _axis(title: str, places: pd.Series) -> dict[str, Any]:
    """Return an axis over the places of the grid."""
    return {"title": title, "range": _ends(places), "ticks": "outside"}


def _ends(places: pd.Series) -> list[float]:
    return [places.min(), places.max()]


def _contours(rows: DataFrame) -> go.Contour:
    grid = rows.pivot(index="y", columns="x", values="fitness")
    values, ticks = grid.to_numpy(), {}
    low, high = values.min(), values.max()
    if wide := is_wide((low, high)):
        ticks = log_ticks(low, high)
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


def _mark_checkpoints(figure: go.Figure, steps: list[int]) -> None:
    """Add the three checkpoints, and their mean."""
    first, middle, last = steps[0], steps[len(steps) // 2], steps[-1]
    _mark_point(figure, 0, 0, f"first: step {first}", "left")
    _mark_point(figure, 1, 0, f"middle: step {middle}", "right")
    _mark_point(figure, 0, 1, f"last: step {last}", "left")
    _mark_point(figure, 1 / 3, 1 / 3, "uniform average", "right", "diamond")


def _mark_best(figure: go.Figure, rows: DataFrame) -> None:
    """Add the best point of the grid; its text keeps clear of the others and of the edges."""
    best = rows.iloc[rows["fitness"].argmin()]
    left, right = _ends(rows["x"])
    if best.x in (left, right):
        side = "right" if best.x == left else "left"
    else:
        side = "top" if (best.y >= 0.5) != (best.y in _ends(rows["y"])) else "bottom"
    text = f"best: {number(best.fitness)}"
    _mark_point(figure, best.x, best.y, text, side, "star")


def _mark_point(
    figure: go.Figure, x: float, y: float, text: str, side: str, symbol: str = "circle"
) -> None:
    """Add a point with a text beside it."""
    outline = {"color": "black", "width": 1.5}
    size = 16 if symbol == "star" else 10
    figure.add_scatter(
        x=[x],
        y=[y],
        mode="markers",
        marker={"symbol": symbol, "size": size, "color": "white", "line": outline},
        cliponaxis=False,
        name=text,
        showlegend=False,
    )
    figure.add_annotation(
        x=x, y=y, text=text, showarrow=False, bgcolor=HALO, **SIDES[side]
    )
