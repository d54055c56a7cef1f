"""The distance by the number of images: how much of a figure is the size of the sample."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import pandas as pd
from pandas import DataFrame
from plotly.subplots import make_subplots

from lct_pipeline.reporting.words import metric_title

SYMBOLS = {0: "x", 1: "circle", 2: "circle-open"}  # by number of evaluations
# the palette of Okabe and Ito
COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#333333"]


def draw_size_bias(distance_by_size: DataFrame) -> Any:
    """Return the distance over 1 / N for each model, and the line to infinitely many images.

    One panel for each extractor and reference: figures of two are never compared. There is no line
    where blocks have fewer images than features.
    """
    groups = _panels(distance_by_size)
    figure = make_subplots(
        rows=max(1, len(groups)),
        cols=1,
        subplot_titles=list(groups),
        vertical_spacing=0.3 / max(1, len(groups)),
    )
    for row, table in enumerate(groups.values(), start=1):
        _draw_panel(figure, table, row)
    figure.update_xaxes(title_text="1 / number of generated images", rangemode="tozero")
    figure.update_layout(
        title="Distance by the number of images; at 0, of infinitely many",
        template="plotly_white",
        height=130 + 360 * max(1, len(groups)),
    )
    return figure


def _panels(table: DataFrame) -> dict[str, DataFrame]:
    """Return the rows of each panel by its title."""
    if table.empty:
        return {}
    keys = ["metric", "extractor_digest", "reference", "file_format"]
    return {
        f"{metric_title(str(metric))}, against {reference}": rows
        for (metric, _, reference, _), rows in table.groupby(keys, sort=False)
    }


def _draw_panel(figure: Any, table: DataFrame, row: int) -> None:
    colors = dict(zip(table["model"].unique(), cycle(COLORS), strict=False))
    for (name, nfe), rows in table.groupby(["model", "nfe"], sort=False):
        color, symbol = colors[name], SYMBOLS.get(int(rows["nfe"].iloc[0]), "diamond")
        label = str(name).replace("_", " ") + (f", NFE {nfe}" if nfe else "")
        figure.add_scatter(
            x=1 / rows["num_images"],
            y=rows["mean"],
            error_y={"array": rows["std"].fillna(0)},
            mode="markers",
            name=label,
            marker={"color": color, "symbol": symbol, "size": 8},
            legendgroup=label,
            showlegend=row == 1,
            row=row,
            col=1,
        )
        smallest = rows.iloc[0]
        figure.add_scatter(
            x=[0, 1 / smallest["num_images"]],
            y=[smallest["infinity"], _on_line(smallest)],
            mode="lines",
            line={"color": color, "dash": "dot"},
            legendgroup=label,
            showlegend=False,
            row=row,
            col=1,
        )


def _on_line(point: pd.Series) -> float:
    """Return the fitted line at a point."""
    return float(point["infinity"] + point["slope"] / point["num_images"])
