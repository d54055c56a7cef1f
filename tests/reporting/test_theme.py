"""What all charts share: names stand in them as they are."""

from __future__ import annotations

import html
import json
import re

import plotly.graph_objects as go
from hostile import HOSTILE, steers_no_terminal
from report_results import history

from lct_pipeline.plain_text import each_text, printable
from lct_pipeline.reporting import box_plots, curves, searches
from lct_pipeline.reporting.svg import panels_of


def test_a_name_is_no_mark_for_plotly_and_the_report_shows_it() -> None:
    table = history().assign(name=HOSTILE, split=HOSTILE, metric=HOSTILE)
    saved, found = json.loads(searches.draw_search_progress(table).to_json()), []
    each_text(saved, lambda text: found.append(text) or text)
    for text in found:
        assert not re.search(r"<(?!/?(?:b|br|sub|extra)>)|\$|&(?!#?\w+;)", text), text
        assert steers_no_terminal(text)
    assert sum(printable(HOSTILE) in html.unescape(text) for text in found) >= 3
    drawn = " ".join(f"{panel.svg}" for panel in panels_of(go.Figure(saved)))
    assert "&lt;script&gt;" in drawn
    assert "<script" not in drawn and "&amp;lt;" not in drawn


def test_every_chart_is_one_of_plain_names() -> None:
    everything = vars(box_plots) | vars(curves) | vars(searches)
    drawn = [found for name, found in everything.items() if name.startswith("draw_")]
    assert len(drawn) == 10 and all(hasattr(draw, "__wrapped__") for draw in drawn)
