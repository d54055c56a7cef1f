"""Curves of training, and of a second step."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
from pandas import DataFrame
from plotly.subplots import make_subplots


def draw_training_curves(training_metrics: DataFrame) -> Any:
    """Return loss, its two parts, N(k), c and its measure, and images per second over the steps."""
    figure = make_subplots(
        rows=2,
        cols=2,
        shared_xaxes=True,
        vertical_spacing=0.12,
        subplot_titles=(
            "loss",
            "curriculum N(k)",
            "scale c, spread of the temporal difference",
            "images per second",
        ),
    )
    panels = [
        (1, 1, ["loss", "consistency_loss", "diffusion_loss"]),
        (1, 2, ["num_levels"]),
        (2, 1, ["c", "spread"]),
        (2, 2, ["images_per_second"]),
    ]
    for row, column, names in panels:
        for name in names:
            figure.add_scatter(
                x=training_metrics["step"],
                y=training_metrics[name],
                name=name.replace("_", " "),
                mode="lines",
                row=row,
                col=column,
            )
    for row, column in ((1, 1), (1, 2), (2, 1)):
        figure.update_yaxes(type="log", row=row, col=column)
    figure.update_xaxes(title_text="training step", row=2)
    figure.update_layout(title="Training", template="plotly_white", height=640)
    return figure


def draw_two_step_sweep(two_step_selection: DataFrame) -> Any:
    """Return the distance over the level of a second step, for each kind of its noise.

    The model is the final one. The dotted line is one step. A diffusion model has no such choice:
    its numbers of evaluations are shown instead.
    """
    final = two_step_selection["model"].iloc[-1]
    table = two_step_selection[two_step_selection["model"] == final]
    figure, title = go.Figure(), "number of evaluations"
    if table["intermediate_sigma"].isna().all():
        figure.add_scatter(x=table["nfe"], y=table["distance"], mode="lines+markers")
    else:
        title = "noise level of the second step"
        for renoise, rows in table[table["nfe"] == 2].groupby("renoise"):
            figure.add_scatter(
                x=rows["intermediate_sigma"],
                y=rows["distance"],
                mode="lines+markers",
                name=f"{renoise} noise",
            )
        one = float(table["distance"].iloc[0])
        figure.add_hline(y=one, line_dash="dot", annotation_text=f"one step: {one:.3g}")
        figure.update_xaxes(type="log")
    figure.update_layout(
        title="A second evaluation, validation split",
        xaxis_title=title,
        yaxis_title=str(table["metric"].iloc[0]).replace("_", " "),
        template="plotly_white",
    )
    return figure
