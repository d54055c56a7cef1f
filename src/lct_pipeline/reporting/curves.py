"""Curves of training and of the search."""

from __future__ import annotations

from typing import Any

import pandas as pd


def draw_training_curves(training_metrics: pd.DataFrame) -> Any:
    """Return loss, its two parts, N(k), c and images per second over the steps."""
    from plotly.subplots import make_subplots

    figure = make_subplots(
        rows=2,
        cols=2,
        shared_xaxes=True,
        vertical_spacing=0.12,
        subplot_titles=("loss", "curriculum N(k)", "scale c", "images per second"),
    )
    panels = [
        (1, 1, ["loss", "consistency_loss", "diffusion_loss"]),
        (1, 2, ["num_levels"]),
        (2, 1, ["c"]),
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


def draw_search_progress(search_history: pd.DataFrame) -> Any:
    """Return fitness by evaluation, the best so far, and the controls as lines."""
    import plotly.graph_objects as go

    searched = search_history[search_history["kind"] != "control"]
    controls = search_history[search_history["control"].notna()]
    figure = go.Figure()
    figure.add_scatter(
        x=searched["evaluation"],
        y=searched["fitness"],
        mode="markers",
        marker={"size": 5, "opacity": 0.5},
        name="evaluated combinations",
    )
    figure.add_scatter(
        x=searched["evaluation"],
        y=searched["fitness"].cummin(),
        mode="lines",
        name="best so far",
    )
    best = controls.sort_values("fitness").groupby("control", sort=False).first()
    for name, fitness in best["fitness"].items():
        figure.add_hline(y=fitness, line_dash="dot", annotation_text=str(name))
    figure.update_layout(
        title="Search over coefficients (LCSC), validation split",
        xaxis_title="evaluation",
        yaxis_title=str(search_history["metric"].iloc[0]).replace("_", " "),
        yaxis_type="log",
        template="plotly_white",
    )
    return figure


def draw_coefficients(combination: dict[str, Any]) -> Any:
    """Return the coefficients of the chosen combination over the training steps."""
    import plotly.graph_objects as go

    figure = go.Figure(go.Bar(x=combination["steps"], y=combination["alpha"]))
    figure.update_layout(
        title=f"Coefficients of the combination, sum {sum(combination['alpha']):.3f}",
        xaxis_title="training step of the checkpoint",
        yaxis_title="alpha",
        template="plotly_white",
    )
    return figure
