"""Charts of plotly as small SVG."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import plotly.graph_objects as go
import pytest

from lct_pipeline.reporting.svg import INNER_HEIGHT, INNER_WIDTH, Axis, Panel, panels_of
from lct_pipeline.reporting.theme import BLUE, GREEN, chart, mark_place, nothing, panels

PATH = re.compile(r"[MHVhvmlza-]|-?[\d.]+")


def drawn(figure: go.Figure) -> Panel:
    """Return the only panel of a chart, as it comes from its file."""
    (found,) = panels_of(go.Figure(json.loads(figure.to_json())))
    ElementTree.fromstring(found.svg)
    return found


def paths(found: Panel, css: str) -> list[str]:
    """Return the paths of a class, each as it is written."""
    marks = ElementTree.fromstring(found.svg).iter("path")
    return [mark.attrib["d"] for mark in marks if css in mark.attrib["class"].split()]


def ends(low: float, high: float) -> dict[str, list[float]]:
    return {"range": [low, high]}


def test_a_line_goes_through_its_points_in_the_colour_of_the_page() -> None:
    figure = chart("A & B", "more", xaxis=ends(0, 10), yaxis=ends(0, 1))
    figure.add_scatter(x=[0, 5, 10], y=[0, 1, None], mode="lines", line_color=BLUE)
    found = drawn(figure)
    assert (found.title, found.details) == ("A & B", "more")
    (path,) = paths(found, "blue")
    assert path == f"M0.0,{INNER_HEIGHT:.1f} {INNER_WIDTH / 2:.1f},0.0"


def test_steps_dashes_and_thin_lines_stay_what_they_are() -> None:
    figure = chart("", xaxis=ends(0, 1), yaxis=ends(0, 1))
    line = {"color": BLUE, "shape": "hv", "dash": "dot", "width": 1}
    figure.add_scatter(x=[0, 1], y=[1, 0], mode="lines", line=line)
    (path,) = paths(drawn(figure), "dashed")
    assert path == f"M0.0,0.0H{INNER_WIDTH:.1f}V{INNER_HEIGHT:.1f}"
    assert paths(drawn(figure), "thin") == [path]


def test_points_say_their_values_and_have_their_errors() -> None:
    figure = chart("", xaxis=ends(0, 2), yaxis=ends(0, 4))
    error, marker = {"array": [1.0]}, {"color": GREEN, "symbol": "x"}
    figure.add_scatter(
        x=[1], y=[2], error_y=error, mode="markers", marker=marker, name="last"
    )
    found = drawn(figure)
    assert "<title>last, 1.00: 2.00</title>" in found.svg
    (path,) = paths(found, "green")
    assert path.startswith(f"M{INNER_WIDTH / 2:.1f},{INNER_HEIGHT / 2:.1f}")
    assert path.endswith(f"m0,{-INNER_HEIGHT / 4:.1f}v{INNER_HEIGHT / 2:.1f}")
    many = go.Figure(figure).update_traces(x=[1] * 100, y=[2] * 100, error_y=None)
    assert "<title>" not in drawn(many).svg


def test_bars_stand_on_zero_and_fit_at_the_edges() -> None:
    figure = chart("").add_bar(x=[10, 20], y=[-1.0, 1.0], marker_color=BLUE, name="b")
    bars = [
        list(map(float, re.findall(r"-?[\d.]+", d)))
        for d in paths(drawn(figure), "box")
    ]
    (left, top, _, height, _), (_, other_top, _, other_height, _) = bars
    assert left > 0
    assert top == pytest.approx(other_top + other_height, abs=0.1)  # zero
    assert height == pytest.approx(other_height, abs=0.2)


def test_boxes_go_from_quartile_to_quartile_over_their_categories() -> None:
    numbers = {"q1": [1.0], "median": [2.0], "q3": [3.0]}
    box = go.Box(
        x=["all"], lowerfence=[0.0], upperfence=[4.0], marker_color=BLUE, **numbers
    )
    found = drawn(chart("", yaxis=ends(0, 4)).add_trace(box))
    (path,) = paths(found, "box")
    assert f",{INNER_HEIGHT / 4:.1f}h" in path
    assert f"v{INNER_HEIGHT / 2:.1f}" in path
    assert f",{INNER_HEIGHT:.1f}V0.0" in paths(found, "rule")[0]
    assert ">all</text>" in found.svg
    assert "half of the values from 1.00 to 3.00" in found.svg


def test_each_panel_is_a_chart_with_its_title_lines_and_legend() -> None:
    figure = panels("All", ["first: more", "second"])
    for row, name in ((1, "a"), (2, "a"), (2, "b"), (1, "c")):
        figure.add_scatter(
            x=[1, 2],
            y=[1, 2],
            name=name,
            mode="lines",
            row=row,
            col=1,
            line_color=BLUE,
            showlegend=row == 2,
        )
    mark_place(figure, 1.5, "N=4")
    first, second = panels_of(go.Figure(json.loads(figure.to_json())))
    assert [(c.title, c.details) for c in (first, second)] == [
        ("first", "more"),
        ("second", ""),
    ]
    assert (first.legend, second.legend) == ({}, {"a": "blue", "b": "blue"})
    assert [len(paths(c, "rule")) for c in (first, second)] == [1, 1]
    assert ["N=4" in c.svg for c in (first, second)] == [True, False]


def test_what_shows_nothing_is_not_drawn() -> None:
    empty = chart("t").add_scatter(x=[1], y=[float("nan")])
    assert panels_of(nothing("t", "why")) == panels_of(empty) == []


def test_on_a_logarithmic_axis_zeros_are_left_out() -> None:
    figure = chart("t", yaxis_type="log").add_scatter(x=[1, 2], y=[0.0, 0.0])
    assert panels_of(figure) == []
    figure.add_scatter(x=[1, 2, 3], y=[0.0, 10.0, 20.0], mode="lines", line_color=BLUE)
    (path,) = paths(drawn(figure), "blue")
    assert len(path.split()) == 2


def test_texts_of_plotly_lose_their_marks_and_others_are_escaped() -> None:
    figure = chart("f(x<sub>t</sub>)<i>", xaxis_title='<b>"')
    found = drawn(figure.add_scatter(x=[1], y=[1], mode="lines", name="<script>"))
    assert found.title == "f(x_t)<i>"
    assert "<script>" not in found.svg and "&lt;script&gt;" in found.svg


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("values", [(0.002, 80.0), (1.0, 1.3), (17.0, 6e4), (2.0,)])
def test_ticks_lie_within_an_axis(log: bool, values: tuple[float, ...]) -> None:
    axis = Axis(go.layout.XAxis(type="log" if log else "linear"), values)
    places = [axis(value) for value in values]
    assert all(0 < place < 1 for place in places) and places == sorted(places)
    ticks = axis.ticks()
    assert 1 <= len(ticks) <= 7
    assert all(-1e-6 <= axis(value) <= 1 + 1e-6 for value, _ in ticks)
    assert len({label for _, label in ticks}) == len(ticks)


def test_ticks_that_are_near_each_other_are_told_apart() -> None:
    axis = Axis(go.layout.YAxis(range=[1.708, 1.722]), [1.71])
    assert [label for _, label in axis.ticks()] == ["1.710", "1.715", "1.720"]
