"""Curves of training, of a second step, and of the distance by the number of images."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from pandas import DataFrame

from lct_pipeline.reporting import theme
from lct_pipeline.reporting.words import metric_title, model_name, number

MAX_POINTS = 1000  # of a line
PANELS = {
    "loss": ["loss", "consistency_loss", "diffusion_loss"],
    "curriculum N(k)": ["num_levels"],
    "scale c, RMS of the temporal differences": ["c", "td_rms"],
    "images per second": ["images_per_second"],
}
NAMES = {"num_levels": "N", "td_rms": "RMS"}  # of columns, where it is not their own
LINE_COLORS = (theme.BLUE, theme.VERMILION, theme.GREEN)
RENOISE_COLORS = dict(zip(("fresh", "same", "coupled"), LINE_COLORS, strict=True))
SYMBOLS = {0: "x", 1: "circle", 2: "circle-open"}  # by number of evaluations


@theme.of_plain_names
def draw_training_curves(training_metrics: DataFrame) -> go.Figure:
    """Return loss, its two parts, N(k), c and its measure, and images per second over the steps.

    Vertical lines are where the stages of the curriculum begin.
    """
    figure = theme.panels("Training", list(PANELS), columns=2)
    table = thinned(training_metrics)
    for place, names in enumerate(PANELS.values()):
        panel = {"row": place // 2 + 1, "col": place % 2 + 1}
        for name, color in zip(names, LINE_COLORS, strict=False):
            line = go.Scatter(x=table["step"], y=table[name], line_color=color)
            line.update(name=NAMES.get(name, name.replace("_", " ")), mode="lines")
            figure.add_trace(line, **panel)
        if names != ["images_per_second"]:
            figure.update_yaxes(type="log", **panel)
    for step, num_levels in stages(training_metrics):
        theme.mark_place(figure, step, f"N={num_levels}")
    return figure.update_xaxes(title_text="training step")


def thinned(metrics: DataFrame) -> DataFrame:
    """Return means over blocks of neighbouring rows, at most ``MAX_POINTS`` of them."""
    block = -(-len(metrics) // MAX_POINTS)
    numbers = metrics.select_dtypes("number")
    return numbers.groupby(np.arange(len(metrics)) // block).mean()


def stages(metrics: DataFrame) -> list[tuple[int, int]]:
    """Return the first step and the number of levels N of each stage of the curriculum."""
    known = metrics.dropna(subset=["num_levels"])
    first = known[known["num_levels"] != known["num_levels"].shift()]
    ends = known["step"].shift(fill_value=0)[first.index]
    return [(int(s), int(n)) for s, n in zip(ends, first["num_levels"], strict=True)]


@theme.of_plain_names
def draw_two_step_sweep(two_step_selection: DataFrame) -> go.Figure:
    """Return the distance over the level of a second step, for each kind of its noise.

    The model is the final one. The dotted line is one step. A diffusion model has no such choice:
    its numbers of evaluations are shown instead.
    """
    final = two_step_selection["model"].iloc[-1]
    table = two_step_selection[two_step_selection["model"] == final]
    name = metric_title(str(table["metric"].iloc[0]))
    figure = theme.chart("A second evaluation, validation split", yaxis_title=name)
    if table["intermediate_sigma"].isna().all():
        figure.update_xaxes(title_text="number of evaluations")
        return figure.add_scatter(
            x=table["nfe"],
            y=table["distance"],
            mode="lines+markers",
            line_color=theme.BLUE,
            name=model_name(str(final), 0),
        )
    for renoise, rows in table[table["nfe"] == 2].groupby("renoise"):
        figure.add_scatter(
            x=rows["intermediate_sigma"],
            y=rows["distance"],
            mode="lines+markers",
            line_color=RENOISE_COLORS[str(renoise)],
            name=f"{renoise} noise",
        )
    one, levels = float(table["distance"].iloc[0]), table["intermediate_sigma"]
    figure.add_scatter(
        x=[levels.min(), levels.max()],
        y=[one, one],
        mode="lines",
        line={"color": theme.INK, "dash": "dot"},
        name=f"one step: {number(one)}",
    )
    title = "noise level of the second step"
    return figure.update_xaxes(type="log", title_text=title)


@theme.of_plain_names
def draw_size_bias(distance_by_size: DataFrame) -> go.Figure:
    """Return the distance over 1 / N for each model, and the line to infinitely many images.

    One panel for each extractor and reference: values of two are never compared. There is no line
    where blocks have fewer images than features.
    """
    keys = ["metric", "extractor_digest", "reference", "file_format"]
    groups = []
    if not distance_by_size.empty:
        groups = [rows for _, rows in distance_by_size.groupby(keys, sort=False)]
    titles = [
        f"{metric_title(rows['metric'].iloc[0])}, against {rows['reference'].iloc[0]}"
        for rows in groups
    ]
    title = "Distance by the number of images; at 0, of infinitely many"
    figure = theme.panels(title, titles)
    for row, table in enumerate(groups, start=1):
        for _, points in table.groupby(["model", "nfe"], sort=False):
            figure.add_traces(_points_and_line(points), rows=row, cols=1)
    figure.update_xaxes(title_text="1 / number of generated images", rangemode="tozero")
    return theme.name_once(figure)


def _points_and_line(points: DataFrame) -> list[go.Scatter]:
    """Return the distances of a model with their standard deviations, and the fitted line."""
    first = points.iloc[0]
    color = theme.MODEL_COLORS.get(str(first.model), theme.GREY)
    name = model_name(str(first.model), int(first.nfe))
    symbol = SYMBOLS.get(int(first.nfe), "diamond")
    at_first = first.infinity + first.slope / first.num_images
    return [
        go.Scatter(
            x=1 / points["num_images"],
            y=points["mean"],
            error_y={"array": points["std"].fillna(0)},
            mode="markers",
            name=name,
            marker={"color": color, "symbol": symbol, "size": 8},
        ),
        go.Scatter(
            x=[0, 1 / first.num_images],
            y=[first.infinity, at_first],
            mode="lines",
            name=name,
            line={"color": color, "dash": "dot"},
        ),
    ]
