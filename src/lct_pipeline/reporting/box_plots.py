"""Box plots with inner and outer fences, as in figure 1 of sLCT, and the spread behind its c."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go
from pandas import DataFrame
from plotly.subplots import make_subplots

from lct_pipeline.core.losses import PAPER_LAW

BLUE, GREEN, ORANGE, RED = "#4c78a8", "#54a24b", "#f58518", "#e45756"
NO_DIFFERENCES = (
    "There are none: no stage is trained yet, or the model is a diffusion model."
)


def draw_box_plot(statistics: DataFrame, title: str) -> Any:
    """Return one box per channel and one for all, with fences and extremes.

    Args:
        statistics: Rows of ``outlier_statistics``.
        title: What the values are.
    """
    figure = go.Figure()
    channels = [_channel_name(name) for name in statistics["channel"]]
    for trace in _traces(channels, statistics, mark_size=28):
        figure.add_trace(trace)
    figure.update_layout(
        title=f"{title}<br><sub>{_summary(statistics.iloc[-1])}</sub>",
        xaxis_title="channel",
        yaxis_title="value",
        template="plotly_white",
        legend={"orientation": "h", "y": -0.2},
    )
    return figure


def draw_td_box_plot(td_statistics: DataFrame) -> Any:
    """Return a panel for each stage, the last one first: a box per level, fences, extremes.

    Args:
        td_statistics: Rows of temporal differences; may be empty.
    """
    stages = [rows for _, rows in td_statistics.groupby("num_levels")][::-1]
    if not stages:
        return _nothing("Temporal differences")
    num_rows, titles = len(stages), [_stage_title(rows) for rows in stages]
    figure = make_subplots(
        num_rows, 1, subplot_titles=titles, vertical_spacing=0.3 / num_rows
    )
    for number, rows in enumerate(stages, start=1):
        levels = [f"{t:.4g}" for t in rows["t"]]
        for trace in _traces(levels, rows, mark_size=18):
            trace.showlegend = number == 1 and trace.showlegend is not False
            figure.add_trace(trace, row=number, col=1)
    figure.update_xaxes(title_text="noise level t", row=num_rows)
    figure.update_xaxes(type="category", tickangle=-45, tickfont_size=10)
    figure.update_yaxes(title_text="f(x<sub>t</sub>, t) - f(x<sub>r</sub>, r)")
    figure.update_layout(
        title=f"Temporal differences, {td_statistics['space'].iloc[0]}",
        template="plotly_white",
        height=140 + 250 * num_rows,
        legend={
            "orientation": "h",
            "x": 1,
            "xanchor": "right",
            "y": 1 + 0.2 / num_rows,
        },
    )
    return figure


def draw_td_spread(td_summary: DataFrame) -> Any:
    """Return the spread of temporal differences against N, and the laws of c, log-log.

    Args:
        td_summary: A row for each N; may be empty.
    """
    if td_summary.empty:
        return _nothing("Spread of the temporal differences")
    row = td_summary.iloc[0]
    laws = {
        "c_fitted": ("fitted", row.slope, row.intercept, ORANGE),
        "c_paper": ("paper", PAPER_LAW.slope, PAPER_LAW.intercept, GREEN),
    }
    figure, num_levels = go.Figure(), td_summary["num_levels"]
    for column, (name, slope, intercept, color) in laws.items():
        figure.add_scatter(
            x=num_levels,
            y=td_summary[column],
            name=f"{name}: exp({slope:.2f} ln N {intercept:+.2f})",
            line={"color": color},
        )
    figure.add_scatter(
        x=num_levels,
        y=td_summary["spread"],
        mode="markers",
        marker={"size": 10, "color": BLUE},
        name="measured",
    )
    figure.update_xaxes(type="log", tickvals=num_levels, title_text="levels N")
    figure.update_yaxes(type="log", dtick="D2", title_text="standard deviation")
    figure.update_layout(
        title=f"Spread of the temporal differences, {row.space}",
        template="plotly_white",
        legend={"x": 1, "xanchor": "right"},
    )
    return figure


def tails(statistics: DataFrame) -> dict[str, float]:
    """Return how heavy the tails of all values are, beside those of a Gaussian."""
    row = statistics.iloc[-1]
    names = ("share_beyond_inner", "share_beyond_outer", "excess_kurtosis")
    return {name: float(row[name]) for name in names}


def _nothing(title: str) -> Any:
    """Return an empty figure that says why."""
    figure = go.Figure()
    figure.add_annotation(text=NO_DIFFERENCES, showarrow=False)
    figure.update_layout(title=title, template="plotly_white")
    return figure


def _stage_title(rows: DataFrame) -> str:
    """Return N, the step, and the tail shares of all levels as training draws them."""
    row = rows.iloc[0]
    inner, outer = (
        (rows["weight"] * rows[f"share_beyond_{fence}"]).sum()
        for fence in ("inner", "outer")
    )
    return (
        f"N = {row.num_levels}, step {row.step}: {inner:.2%} beyond the inner fences "
        f"(Gaussian {row.gaussian_share_beyond_inner:.2%}), {outer:.2%} beyond the outer "
        f"(Gaussian {row.gaussian_share_beyond_outer:.4%})"
    )


def _channel_name(name: str) -> str:
    return name if name == "all" else f"channel {name}"


def _traces(labels: list[str], rows: DataFrame, *, mark_size: int) -> list[Any]:
    """Return the boxes of some rows, their fences and their extremes."""
    marks = {
        "inner": (GREEN, "inner fence (1.5 IQR)"),
        "outer": (ORANGE, "outer fence (3 IQR)"),
    }
    traces = [_boxes(labels, rows)]
    for fence, (color, label) in marks.items():
        marker = {
            "symbol": "line-ew-open",
            "size": mark_size,
            "color": color,
            "line": {"width": 2},
        }
        for side in ("low", "high"):
            y = rows[f"{fence}_{side}"]
            traces.append(_points(labels, y, marker, label, fence, side == "low"))
    for column in ("minimum", "maximum"):
        marker = {"color": RED, "size": 7}
        shown = column == "minimum"
        traces.append(
            _points(labels, rows[column], marker, "extremes", "extremes", shown)
        )
    return traces


def _boxes(labels: list[str], rows: DataFrame) -> go.Box:
    return go.Box(
        x=labels,
        q1=rows["q1"],
        median=rows["median"],
        q3=rows["q3"],
        lowerfence=rows["inner_low"].clip(lower=rows["minimum"]),
        upperfence=rows["inner_high"].clip(upper=rows["maximum"]),
        mean=rows["mean"],
        name="quartiles",
        marker_color=BLUE,
    )


def _points(
    labels: list[str],
    y: pd.Series,
    marker: dict[str, Any],
    name: str,
    group: str,
    show: bool,
) -> go.Scatter:
    return go.Scatter(
        x=labels,
        y=y,
        mode="markers",
        marker=marker,
        name=name,
        legendgroup=group,
        showlegend=show,
    )


def _summary(row: pd.Series) -> str:
    return (
        f"{row.share_beyond_inner:.2%} beyond the inner fences "
        f"(Gaussian {row.gaussian_share_beyond_inner:.2%}), "
        f"{row.share_beyond_outer:.4%} beyond the outer "
        f"(Gaussian {row.gaussian_share_beyond_outer:.4%}), "
        f"excess kurtosis {row.excess_kurtosis:.2f}"
    )
