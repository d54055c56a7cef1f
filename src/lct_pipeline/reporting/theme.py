"""What all charts share: colours, a frame, panels, and scales of fitness.

A chart is a figure of plotly. kedro-viz and notebooks show it as it is; the report draws the same
figure small, in the colours that its style sheet has under the names of ``COLORS``.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lct_pipeline.plain_text import each_text, printable

P = ParamSpec("P")

# the palette of Okabe and Ito: these stay apart for the colour-blind
COLORS = {
    "blue": "#0072B2",
    "vermilion": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "ink": "#333333",
    "grey": "#888888",
}
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, INK, GREY = COLORS.values()
METHOD_COLORS = {
    "gradient": BLUE,
    "evolution": VERMILION,
    "cma": GREEN,
    "random": PURPLE,
}
MODEL_COLORS = {
    "last": ORANGE,
    "best_ema": BLUE,
    "combined": GREEN,
    "real_validation_images": INK,
    "reconstructed_test_images": PURPLE,
    "gaussian_latents": GREY,
}
LEGEND = {"orientation": "h", "y": -0.17}
TAGS = re.compile(r"&lt;(/?(?:b|br|sub|extra))&gt;")  # that texts of charts have
WIDE = 5  # the factor beyond which a scale is logarithmic


def with_texts(figure: go.Figure, change: Callable[[str], str]) -> go.Figure:
    """Return a chart of which each text is changed, wherever it stands."""
    return go.Figure(each_text(figure.to_plotly_json(), change))


def of_plain_names(draw: Callable[P, go.Figure]) -> Callable[P, go.Figure]:
    """Have a chart show names as they are: plotly takes links and formulas in any text for such."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> go.Figure:
        return with_texts(draw(*args, **kwargs), _escaped)

    return drawn


def _escaped(text: str) -> str:
    found = html.escape(printable(text), quote=False).replace("$", "&#36;")
    return TAGS.sub(r"<\1>", found)


def chart(title: str, details: str = "", **layout: Any) -> go.Figure:
    """Return an empty chart.

    Args:
        title: What it shows.
        details: A smaller line below the title.
        layout: Of plotly, such as ``xaxis_title``.
    """
    text = f"{title}<br><sub>{details}</sub>" if details else title
    layout = {"template": "plotly_white", "legend": LEGEND, **layout}
    return go.Figure(layout=go.Layout(title=text, **layout))


def panels(title: str, titles: list[str], *, columns: int = 1) -> go.Figure:
    """Return a chart of titled panels, row by row; ``row`` and ``col`` of a trace choose one."""
    rows = max(1, -(-len(titles) // columns))
    figure = make_subplots(
        rows, columns, subplot_titles=titles, vertical_spacing=0.4 / rows
    )
    figure.update_annotations(font_size=13, yshift=14)  # above the texts of places
    legend = {"orientation": "h", "y": -0.25 / rows}
    figure.update_layout(title=title, template="plotly_white", legend=legend)
    return figure.update_layout(height=150 + 290 * rows)


def mark_place(figure: go.Figure, x: float, text: str, color: str = GREY) -> None:
    """Add a vertical line to all panels, with a text above the first of them."""
    figure.add_vline(x, line={"color": color, "dash": "dot", "width": 1.5})
    figure.add_annotation(
        x=x,
        y=1,
        yref="y domain",
        yanchor="bottom",
        text=text,
        showarrow=False,
        font_color=color,
    )


def name_once(figure: go.Figure) -> go.Figure:
    """Leave each name in the legend once, for all traces that have it."""
    seen: set[str] = set()
    for trace in figure.data:
        trace.legendgroup = trace.legendgroup or trace.name
        trace.showlegend = trace.showlegend is not False and trace.name not in seen
        seen.add(trace.name)
    return figure


def nothing(title: str, reason: str) -> go.Figure:
    """Return an empty chart that says why."""
    figure = chart(title, xaxis_visible=False, yaxis_visible=False)
    return figure.add_annotation(text=reason, showarrow=False, font_size=15)


def is_wide(low: float, high: float) -> bool:
    """Return whether positive values cover more than a factor of ``WIDE``."""
    return low > 0 and high / low > WIDE


def fitness_axis(low: float, high: float) -> dict[str, Any]:
    """Return an axis with a margin around two fitnesses, logarithmic where they are far apart."""
    if is_wide(low, high):
        ends = _with_margin(*np.log10([low, high]))
        return {"type": "log", "range": ends, **log_ticks(low, high)}
    return {"range": _with_margin(low, high)}


def _with_margin(low: float, high: float) -> list[float]:
    margin = 0.04 * (high - low)
    return [low - margin, high + margin]


def log_ticks(low: float, high: float) -> dict[str, Any]:
    """Return places and texts of round values for a logarithmic scale, neither few nor many."""
    steps = (1, 1.5, 2, 3, 5, 7) if high / low < 30 else (1, 2, 5)
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    values = [step * 10.0**decade for decade in decades for step in steps]
    shown = [value for value in values if low <= value <= high]
    return {"tickvals": shown, "ticktext": [f"{value:g}" for value in shown]}
