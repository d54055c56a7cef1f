"""Charts of plotly as small inline SVG, whose colours and fonts are those of the page.

It draws what charts of this project have: lines, points, error bars, bars, boxes, vertical lines
with a text, and axes that are linear, logarithmic or of categories. A chart of several panels
becomes as many.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from markupsafe import Markup

from lct_pipeline.reporting.axes import Axis, listed, plain
from lct_pipeline.reporting.theme import COLORS
from lct_pipeline.reporting.words import number

WIDTH, HEIGHT = 360, 236  # about a phone's width: text keeps its size there
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 34, 38
INNER_WIDTH, INNER_HEIGHT = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
MAX_TITLES = 60  # points of a trace that say their values when pointed at
CLASSES = {color: name for name, color in COLORS.items()}
DOT = "h0"  # a stroke without length, whose round ends make a point
SYMBOLS = {  # paths from the place of a point
    "line-ew-open": "m-5,0h10",
    "x": "m-3,-3l6,6m0,-6l-6,6",
    "circle-open": "m-3,0a3,3 0 1,0 6,0a3,3 0 1,0 -6,0",
    "star": "m0,-6l2,4 4,0 -3,3 1,4 -4,-2 -4,2 1,-4 -3,-3 4,0z",
}


@dataclass(frozen=True)
class Chart:
    """A drawn panel: its title, a sentence about it, and what its colours mean, by class."""

    title: str
    details: str
    svg: Markup
    legend: dict[str, str]


def draw(figure: go.Figure) -> list[Chart]:
    """Return the panels of a chart; none of one that shows nothing."""
    text = str(figure.layout.title.text)
    titles = [note.text for note in figure.layout.annotations if note.xref == "paper"]
    found: dict[str, list[Any]] = {}
    for trace in figure.data:
        axis = figure.layout[f"yaxis{(trace.yaxis or 'y')[1:]}"]
        values = _values(trace, "y")
        if any(value > 0 for value in values) or (values and axis.type != "log"):
            found.setdefault(trace.xaxis or "x", []).append(trace)
    charts = []
    for name, traces in found.items():
        place = int(name[1:] or 1) - 1
        own, sign = (titles[place], ": ") if titles else (text, "<br><sub>")
        title, _, details = own.partition(sign)
        panel = Panel(figure, name, traces)
        svg = panel.svg(plain(f"{text}, {title}" if titles else title))
        charts.append(Chart(plain(title), plain(details), svg, panel.legend()))
    return charts


def _values(trace: Any, axis: str) -> list[Any]:
    """Return what a trace shows along an axis: numbers that are finite, or categories."""
    columns = [axis]
    if axis == "y" and trace.type == "box":
        columns = ["q1", "q3", "lowerfence", "upperfence"]
    values = [value for column in columns for value in listed(trace[column])]
    return [value for value in values if isinstance(value, str) or math.isfinite(value)]


class Panel:
    """One panel of a chart.

    Args:
        figure: The chart.
        name: Of the horizontal axis, such as ``x2``.
        traces: What stands in the panel.
    """

    def __init__(self, figure: go.Figure, name: str, traces: list[Any]) -> None:
        self._name, self._traces = name, traces
        layout, number_ = figure.layout, name[1:]
        self._texts = [n for n in layout.annotations if (n.xref or "x") == name]
        self._lines = [shape for shape in layout.shapes if shape.xref == name]
        shown = [trace for trace in figure.data if trace.showlegend is not False]
        self._named = {trace.name for trace in shown}
        xs = [x for trace in traces for x in _values(trace, "x")]
        ys = [y for trace in traces for y in _values(trace, "y")]
        if any(trace.type == "bar" for trace in traces):
            ys.append(0.0)
            edge = (max(xs) - min(xs)) / (2 * len(xs))
            xs += [min(xs) - edge, max(xs) + edge]
        self._x = Axis(
            layout[f"xaxis{number_}"], xs + [line.x0 for line in self._lines]
        )
        self._y = Axis(layout[f"yaxis{number_}"], ys)

    def legend(self) -> dict[str, str]:
        """Return what lines and colours mean, by class."""
        named: dict[str, str] = {}
        for trace in self._traces:
            if trace.name in self._named:
                named.setdefault(trace.name, _css(trace))
        return named if len(named) > 1 else {}

    def svg(self, description: str) -> Markup:
        """Return the panel; ``description`` is for those who cannot see it."""
        marks = Markup().join(mark for t in self._traces for mark in self._marks(t))
        lines = Markup().join(
            _path(f"rule {_css(line)}", f"M{self._px(line.x0):.1f},0V{INNER_HEIGHT}")
            for line in self._lines
        )
        return Markup(
            '<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">{}'
            '<svg x="{}" y="{}" width="{}" height="{}">{}{}</svg></svg>'
        ).format(
            WIDTH,
            HEIGHT,
            description,
            Markup().join([*self._axes(), *self._notes()]),
            LEFT,
            TOP,
            INNER_WIDTH,
            INNER_HEIGHT,
            lines,
            marks,
        )

    def _px(self, x: Any) -> float:
        return self._x(x) * INNER_WIDTH

    def _py(self, y: float) -> float:
        return (1 - self._y(y)) * INNER_HEIGHT

    def _marks(self, trace: Any) -> Iterator[Markup]:
        if trace.type == "box":
            yield from self._boxes(trace)
        elif trace.type == "bar":
            yield from self._bars(trace)
        else:
            yield from self._scatter(trace)

    def _scatter(self, trace: Any) -> Iterator[Markup]:
        xs, ys = listed(trace.x), listed(trace.y)
        places = [(self._px(x), self._py(y)) for x, y in zip(xs, ys, strict=True)]
        if "lines" in (trace.mode or ""):
            yield self._line(trace, [p for p in places if math.isfinite(p[1])])
        if "markers" in (trace.mode or ""):
            yield from self._points(trace, places)

    def _line(self, trace: Any, places: list[tuple[float, float]]) -> Markup:
        if trace.line.shape == "hv":
            steps = "".join(f"H{x:.1f}V{y:.1f}" for x, y in places[1:])
            path = f"M{places[0][0]:.1f},{places[0][1]:.1f}{steps}"
        else:
            path = "M" + " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        return _path(f"line {_css(trace)}", path, trace.name)

    def _points(
        self, trace: Any, places: list[tuple[float, float]]
    ) -> Iterator[Markup]:
        symbol = SYMBOLS.get(trace.marker.symbol, DOT)
        css = _css(trace) + (" dot" if symbol == DOT else "")
        errors = listed(trace.error_y.array) or [0.0] * len(places)
        titles = list(self._titles(trace)) if len(places) <= MAX_TITLES else []
        scale = INNER_HEIGHT / (self._y.high - self._y.low)
        for number_, ((x, y), error) in enumerate(zip(places, errors, strict=True)):
            if not math.isfinite(y):
                continue
            bar = f"m0,{-error * scale:.1f}v{2 * error * scale:.1f}" if error else ""
            title = titles[number_] if titles else ""
            yield _path(css, f"M{x:.1f},{y:.1f}{symbol}{bar}", title)

    def _titles(self, trace: Any) -> Iterator[str]:
        names = listed(trace.text) or [trace.name] * len(trace.y)
        for name, x, y in zip(names, listed(trace.x), listed(trace.y), strict=True):
            yield f"{name}, {x if isinstance(x, str) else number(x)}: {number(y)}"

    def _bars(self, trace: Any) -> Iterator[Markup]:
        width = min(20.0, 220.0 / len(trace.x))
        for title, x, y in zip(
            self._titles(trace), listed(trace.x), listed(trace.y), strict=True
        ):
            yield self._box(_css(trace), x, width, 0.0, y, title)
        yield _path("rule ink", f"M0,{self._py(0.0):.1f}H{INNER_WIDTH}")

    def _boxes(self, trace: Any) -> Iterator[Markup]:
        columns = ("x", "lowerfence", "q1", "median", "q3", "upperfence")
        width = min(34.0, 200.0 / len(trace.x))
        rows = zip(*(listed(trace[name]) for name in columns), strict=True)
        for x, low, q1, median, q3, high in rows:
            middle, css = self._px(x), _css(trace)
            whisker = f"M{middle:.1f},{self._py(low):.1f}V{self._py(high):.1f}"
            yield _path("rule ink", whisker)
            title = f"{x}: half of the values from {number(q1)} to {number(q3)}"
            yield self._box(css, x, width, q1, q3, title)
            across = f"M{middle - width / 2:.1f},{self._py(median):.1f}h{width:.1f}"
            yield _path("rule paper", across, f"median {number(median)}")

    def _box(
        self, css: str, x: Any, width: float, low: float, high: float, title: str
    ) -> Markup:
        """Return a rectangle around ``x``, ``width`` pixels wide."""
        top, bottom = sorted((self._py(low), self._py(high)))
        corner = f"M{self._px(x) - width / 2:.1f},{top:.1f}"
        path = f"{corner}h{width:.1f}v{max(bottom - top, 0.5):.1f}h{-width:.1f}z"
        return _path(f"box {css}", path, title)

    def _axes(self) -> Iterator[Markup]:
        for value, label in self._y.ticks():
            y = TOP + self._py(value)
            yield _path("grid", f"M{LEFT},{y:.1f}H{WIDTH - RIGHT}")
            yield _text(LEFT - 6, y + 4, label, "end")
        for value, label in self._x.ticks():
            yield _text(LEFT + self._px(value), HEIGHT - BOTTOM + 15, label, "middle")
        yield _text(2, 12, self._y.title, "start")
        yield _text(WIDTH - RIGHT, HEIGHT - 5, self._x.title, "end")

    def _notes(self) -> Iterator[Markup]:
        for note in self._texts:
            yield _text(LEFT + self._px(note.x), TOP - 5, plain(note.text), "middle")


def _css(mark: Any) -> str:
    """Return the classes of a trace or line: its colour in the page, and how it is drawn."""

    def told(name: str) -> Any:
        return mark[name] if name in mark else None

    kinds = {
        CLASSES.get(told("line.color") or told("marker.color"), "grey"): True,
        str(told("marker.symbol")): told("marker.symbol") in SYMBOLS,
        "dashed": told("line.dash"),
        "thin": told("line.width") == 1,
        "faint": told("opacity") or told("marker.opacity"),
    }
    return " ".join(kind for kind, is_so in kinds.items() if is_so)


def _path(css: str, path: str, title: str = "") -> Markup:
    tooltip = Markup("<title>{}</title>").format(plain(title)) if title else ""
    return Markup('<path class="{}" d="{}">{}</path>').format(css, path, tooltip)


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    mark = '<text x="{}" y="{}" text-anchor="{}">{}</text>'
    return Markup(mark).format(f"{x:.1f}", f"{y:.1f}", anchor, text)
