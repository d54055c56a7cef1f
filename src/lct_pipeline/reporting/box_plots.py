"""Box plots with inner and outer fences, as in figure 1 of sLCT, and what is behind its c."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import plotly.graph_objects as go
from pandas import DataFrame

from lct_pipeline.core.losses import PAPER_LAW
from lct_pipeline.reporting import theme

NO_DIFFERENCES = (
    "There are none: no stage is trained yet, or the model is a diffusion model."
)
TAILS = ("share_beyond_inner", "share_beyond_outer", "excess_kurtosis")
TICK = {"symbol": "line-ew-open", "size": 20, "line_width": 2}
DOT = {"symbol": "circle", "size": 7, "line_width": 0}
MARKS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "inner fences (1.5 IQR)": (
        "inner_low",
        "inner_high",
        TICK | {"color": theme.GREEN},
    ),
    "outer fences (3 IQR)": ("outer_low", "outer_high", TICK | {"color": theme.ORANGE}),
    "extremes": ("minimum", "maximum", DOT | {"color": theme.VERMILION}),
}


@theme.of_plain_names
def draw_box_plot(statistics: DataFrame, title: str) -> go.Figure:
    """Return one box per channel and one for all, with fences and extremes.

    Args:
        statistics: Rows of ``outlier_statistics``.
        title: What the values are.
    """
    figure = theme.chart(
        title,
        _tails_text(statistics.tail(1)),
        xaxis={"title": "channel", "type": "category"},
        yaxis_title="value",
    )
    return figure.add_traces(list(_traces(list(statistics["channel"]), statistics)))


@theme.of_plain_names
def draw_td_box_plot(td_statistics: DataFrame) -> go.Figure:
    """Return a panel for each stage, the last one first: a box per level, fences, extremes.

    Args:
        td_statistics: Rows of temporal differences; may be empty.
    """
    stages = [rows for _, rows in td_statistics.groupby("num_levels")][::-1]
    if not stages:
        return theme.nothing("Temporal differences", NO_DIFFERENCES)
    title = f"Temporal differences, {td_statistics['space'].iloc[0]}"
    figure = theme.panels(title, [_stage_title(rows) for rows in stages])
    for number, rows in enumerate(stages, start=1):
        for trace in _traces([f"{t:.4g}" for t in rows["t"]], rows):
            figure.add_trace(trace, row=number, col=1)
    figure.update_xaxes(type="category", title_text="noise level t")
    figure.update_yaxes(title_text="f(x<sub>t</sub>, t) - f(x<sub>r</sub>, r)")
    return theme.name_once(figure)


@theme.of_plain_names
def draw_td_std(td_summary: DataFrame) -> go.Figure:
    """Return the standard deviation of temporal differences against N, and the laws of c, log-log.

    Args:
        td_summary: A row for each N; may be empty.
    """
    title = "Standard deviation of the temporal differences"
    if td_summary.empty:
        return theme.nothing(title, NO_DIFFERENCES)
    row, num_levels = td_summary.iloc[0], td_summary["num_levels"]
    figure = theme.chart(
        f"{title}, {row.space}",
        xaxis={"type": "log", "tickvals": num_levels, "title": "levels N"},
        yaxis={"type": "log", "dtick": "D2"},
        yaxis_title="standard deviation, c of the loss",
    )
    laws: dict[str, tuple[Any, str]] = {
        "fitted": (row, theme.ORANGE),
        "paper": (PAPER_LAW, theme.GREEN),
    }
    has_constant = row.c_paper != PAPER_LAW(row.num_levels)  # iCT's, in the first stage
    for name, (law, color) in laws.items():
        first = (
            "0.00054 \N{SQUARE ROOT}D, then "
            if name == "paper" and has_constant
            else ""
        )
        figure.add_scatter(
            x=num_levels,
            y=td_summary[f"c_{name}"],
            mode="lines",
            name=f"{name}: {first}exp({law.slope:.2f} ln N {law.intercept:+.2f})",
            line_color=color,
        )
    return figure.add_scatter(
        x=num_levels,
        y=td_summary["std"],
        mode="markers",
        marker={"size": 10, "color": theme.BLUE},
        name="measured",
    )


def tails(statistics: DataFrame) -> dict[str, float]:
    """Return how heavy the tails of values are.

    Of temporal differences they are means over the levels, as often as training draws these; of
    other values those of the last row, which is of all of them.
    """
    if "weight" not in statistics:
        return {name: float(statistics[name].iloc[-1]) for name in TAILS}
    weights = statistics["weight"] / statistics["weight"].sum()
    return {name: float((weights * statistics[name]).sum()) for name in TAILS}


def _stage_title(rows: DataFrame) -> str:
    first = rows.iloc[0]
    return f"N = {first.num_levels}, step {first.step}: {_tails_text(rows)}"


def _tails_text(rows: DataFrame) -> str:
    inner, outer, kurtosis = tails(rows).values()
    gaussian = rows.iloc[0]
    return (
        f"{inner:.2%} beyond the inner fences "
        f"(Gaussian {gaussian.gaussian_share_beyond_inner:.2%}), "
        f"{outer:.4%} beyond the outer "
        f"(Gaussian {gaussian.gaussian_share_beyond_outer:.4%}), "
        f"excess kurtosis {kurtosis:.2f}"
    )


def _traces(labels: list[str], rows: DataFrame) -> Iterator[Any]:
    """Yield the boxes of some rows, their fences and their extremes."""
    yield go.Box(
        x=labels,
        q1=rows["q1"],
        median=rows["median"],
        q3=rows["q3"],
        lowerfence=rows["inner_low"].clip(lower=rows["minimum"]),
        upperfence=rows["inner_high"].clip(upper=rows["maximum"]),
        mean=rows["mean"],
        name="quartiles",
        marker_color=theme.BLUE,
    )
    for name, (low, high, marker) in MARKS.items():
        y = [*rows[low], *rows[high]]
        yield go.Scatter(x=labels * 2, y=y, mode="markers", marker=marker, name=name)
