"""What all charts share: names stand in them as they are."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest
from hostile import HOSTILE, steers_no_terminal
from making_runs import combination
from report_results import history, statistics

from lct_pipeline.plain_text import printable
from lct_pipeline.reporting import box_plots, curves, searches
from lct_pipeline.reporting.svg import panels_of

TABLE = pd.DataFrame(
    {
        "nfe": [1, 2],
        "num_images": [100, 200],
        "distance": [2.0, 3.0],
        "infinity": 1.0,
        "slope": 100.0,
        "mean": [2.0, 1.5],
        "std": 0.1,
    }
)
NAMES = dict.fromkeys(
    ("model", "metric", "reference", "extractor_digest", "file_format"), HOSTILE
)
CHARTS: dict[str, Callable[[], go.Figure]] = {
    "box plot": lambda: box_plots.draw_box_plot(
        statistics().assign(channel=[HOSTILE, "all"]), HOSTILE
    ),
    "size bias": lambda: curves.draw_size_bias(TABLE.assign(**NAMES)),
    "two steps": lambda: curves.draw_two_step_sweep(
        TABLE.assign(intermediate_sigma=None, **NAMES)
    ),
    "search": lambda: searches.draw_search_progress(
        history().assign(name=HOSTILE, split=HOSTILE, metric=HOSTILE)
    ),
    "coefficients": lambda: searches.draw_coefficients(
        combination(name=HOSTILE, is_selected=False, selected=HOSTILE),
        pd.DataFrame(
            {"name": ["EMA 0.9"], "method": "baseline", "selection_fitness": 1.0}
        ).assign(alpha=[[0.0] * 3], seed=0),
    ),
}


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from texts(inner)
    elif isinstance(value, str):
        yield value


@pytest.mark.parametrize("draw", CHARTS.values(), ids=CHARTS)
def test_a_name_is_no_mark_for_plotly_and_the_report_shows_it(
    draw: Callable[[], go.Figure],
) -> None:
    figure = draw()
    found = list(texts(json.loads(figure.to_json())))
    for text in found:
        assert not re.search(r"<(?!/?(?:b|br|sub|extra)>)|\$|&(?!#?\w+;)", text), text
        assert steers_no_terminal(text)
    shown = [text for text in map(html.unescape, found) if "onerror" in text]
    assert any(printable(HOSTILE) in text for text in shown)
    panels = panels_of(go.Figure(json.loads(figure.to_json())))
    assert any("&lt;script&gt;" in f"{panel.svg}" for panel in panels)
    assert not any(
        "<script" in panel.svg or "&amp;lt;" in panel.svg for panel in panels
    )


def test_every_chart_is_one_of_plain_names() -> None:
    drawn = [
        function
        for module in (box_plots, curves, searches)
        for name, function in vars(module).items()
        if name.startswith("draw_")
    ]
    assert len(drawn) == 10
    assert all(hasattr(function, "__wrapped__") for function in drawn)
