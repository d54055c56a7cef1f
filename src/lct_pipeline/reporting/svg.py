"""Charts of plotly as small inline SVG, whose colours and fonts are those of the page.

It draws what charts of this project have: lines, points, error bars, bars, boxes, vertical lines
with a text, and axes that are linear, logarithmic or of categories. A chart of several panels
becomes as many.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from lct_pipeline.reporting.theme import COLORS, log_ticks, with_texts
from lct_pipeline.reporting.words import MINUS, number

WIDTH, HEIGHT = 360, 236  # about a phone's width: text keeps its size there
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 34, 38
INNER_WIDTH, INNER_HEIGHT = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
MAX_TICKS = 6
MAX_TITLES = 60  # points of a trace that say their values when pointed at
TAGS = re.compile("</?(?:b|br|sub)>")  # that plotly understands in texts
CLASSES = {color: name for name, color in COLORS.items()}
DOT = "h0"  # a stroke without length, whose round ends make a point
SYMBOLS = {  # paths from the place of a point
    "line-ew-open": "m-5,0h10",
    "x": "m-3,-3l6,6m0,-6l-6,6",
    "circle-open": "m-3,0a3,3 0 1,0 6,0a3,3 0 1,0 -6,0",
    "star": "m0,-6l2,4 4,0 -3,3 1,4 -4,-2 -4,2 1,-4 -3,-3 4,0z",
}


def panels_of(figure: go.Figure) -> list[Panel]:
    """Return the panels of a chart; none of one that shows nothing."""
    figure = with_texts(figure, html.unescape)
    found: dict[str, list[Any]] = {}
    for trace in figure.data:
        axis = figure.layout[f"yaxis{(trace.yaxis or 'y')[1:]}"]
        values = _values(trace, "y")
        if any(value > 0 for value in values) or (values and axis.type != "log"):
            found.setdefault(trace.xaxis or "x", []).append(trace)
    return [Panel(figure, name, traces) for name, traces in found.items()]


def _values(trace: Any, axis: str) -> list[Any]:
    """Return what a trace shows along an axis: numbers that are finite, or categories."""
    columns = [axis]
    if axis == "y" and trace.type == "box":
        columns = ["q1", "q3", "lowerfence", "upperfence"]
    values = [value for column in columns for value in _listed(trace[column])]
    return [value for value in values if isinstance(value, str) or math.isfinite(value)]


def _listed(values: Any) -> list[Any]:
    """Return values of plotly as a list, in which NaN is what is missing."""
    found = [] if values is None else np.asarray(values).tolist()
    return [math.nan if value is None else value for value in found]


def _rows(trace: Any, *columns: str) -> Iterator[tuple[Any, ...]]:
    """Return the values of some columns of a trace, point by point."""
    return zip(*(_listed(trace[column]) for column in columns), strict=True)


def _plain(text: str) -> str:
    """Return a text of plotly without its marks."""
    return TAGS.sub("", text.replace("<sub>", "_").replace("<br>", " "))


class Axis:
    """Maps values to [0, 1]: linearly, by their logarithm, or by the place of a category.

    Args:
        layout: The axis in the layout of the chart.
        values: All that has to be on it.
    """

    def __init__(self, layout: Any, values: Sequence[Any]) -> None:
        self._layout, self._log = layout, layout.type == "log"
        self._categories = list(dict.fromkeys(v for v in values if isinstance(v, str)))
        self.title = _plain(layout.title.text or "")
        self.low, self.high = self._ends(values)

    def _ends(self, values: Sequence[Any]) -> tuple[float, float]:
        if self._categories:
            return -0.6, len(self._categories) - 0.4
        if self._layout.range is not None:
            return self._layout.range
        known = [v for v in map(self._number, values) if math.isfinite(v)]
        low, high = min(known), max(known)
        room = 0.06 * ((high - low) or abs(high) or 1.0)
        is_from_zero = self._layout.rangemode == "tozero"
        return 0.0 if is_from_zero else low - room, high + room

    def _number(self, value: Any) -> float:
        if isinstance(value, str):
            return self._categories.index(value)
        if self._log:
            return math.log10(value) if value > 0 else math.nan
        return value

    def __call__(self, value: Any) -> float:
        """Return the place of a value: between 0 and 1 on the axis; NaN has none."""
        return (self._number(value) - self.low) / (self.high - self.low)

    def ticks(self) -> list[tuple[Any, str]]:
        """Return values with their labels, not too many of them."""
        inside = [
            (v, label) for v, label in self._labels() if -1e-6 <= self(v) <= 1 + 1e-6
        ]
        return inside[:: -(-len(inside) // MAX_TICKS) or 1]

    def _labels(self) -> Iterator[tuple[Any, str]]:
        if self._categories:
            return zip(self._categories, self._categories, strict=True)
        if given := _listed(self._layout.tickvals):
            texts = _listed(self._layout.ticktext) or [f"{value:g}" for value in given]
            return zip(given, texts, strict=True)
        if self._log:
            ticks = log_ticks(10**self.low, 10**self.high)
            return zip(ticks["tickvals"], ticks["ticktext"], strict=True)
        places = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(self.low, self.high)
        decimals = max(0, -math.floor(math.log10(places[1] - places[0]) + 1e-9))
        form = "g" if max(map(abs, places)) >= 1e6 else f",.{decimals}f"
        return ((v, f"{v + 0.0:{form}}".replace("-", MINUS)) for v in places)


class Panel:
    """One panel of a chart.

    Args:
        figure: The chart.
        name: Of the horizontal axis, such as ``x2``.
        traces: What stands in the panel.

    Attributes:
        title: What it shows.
        details: A sentence about it.
        legend: What lines and colours mean, by class.
    """

    def __init__(self, figure: go.Figure, name: str, traces: list[Any]) -> None:
        layout, self._traces = figure.layout, traces
        text = str(layout.title.text)
        titles = [note.text for note in layout.annotations if note.xref == "paper"]
        own, sign = text, "<br><sub>"
        if titles:
            own, sign = titles[int(name[1:] or 1) - 1], ": "
        title, _, details = own.partition(sign)
        self.title, self.details = _plain(title), _plain(details)
        self._text = _plain(f"{text}, {title}" if titles else title)
        self._notes = [n for n in layout.annotations if (n.xref or "x") == name]
        self._lines = [shape for shape in layout.shapes if shape.xref == name]
        shown = {t.name for t in figure.data if t.showlegend is not False}
        named: dict[str, str] = {}
        for trace in traces:
            if trace.name in shown:
                named.setdefault(trace.name, _css(trace))
        self.legend = named if len(named) > 1 else {}
        self._x, self._y = self._axes(layout, name[1:])

    def _axes(self, layout: Any, place: str) -> tuple[Axis, Axis]:
        xs = [x for trace in self._traces for x in _values(trace, "x")]
        ys = [y for trace in self._traces for y in _values(trace, "y")]
        if any(trace.type == "bar" for trace in self._traces):
            ys.append(0.0)
            edge = (max(xs) - min(xs)) / (2 * len(xs))
            xs += [min(xs) - edge, max(xs) + edge]
        xs += [line.x0 for line in self._lines]
        return Axis(layout[f"xaxis{place}"], xs), Axis(layout[f"yaxis{place}"], ys)

    @property
    def svg(self) -> Markup:
        """Return the panel; its text is for those who cannot see it."""
        kinds = {"box": self._boxes, "bar": self._bars}
        drawn = [
            _path(f"rule {_css(line)}", f"M{self._px(line.x0):.1f},0V{INNER_HEIGHT}")
            for line in self._lines
        ]
        for trace in self._traces:
            drawn += kinds.get(trace.type, self._scatter)(trace)
        start = '<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">'
        inner = '{}<svg x="{}" y="{}" width="{}" height="{}">{}</svg></svg>'
        frame, marks = Markup().join(self._frame()), Markup().join(drawn)
        place = (LEFT, TOP, INNER_WIDTH, INNER_HEIGHT)
        return Markup(start + inner).format(
            WIDTH, HEIGHT, self._text, frame, *place, marks
        )

    def _px(self, x: Any) -> float:
        return self._x(x) * INNER_WIDTH

    def _py(self, y: float) -> float:
        return (1 - self._y(y)) * INNER_HEIGHT

    def _scatter(self, trace: Any) -> Iterator[Markup]:
        places = [(self._px(x), self._py(y)) for x, y in _rows(trace, "x", "y")]
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

    def _points(self, trace: Any, places: list[Any]) -> Iterator[Markup]:
        symbol = SYMBOLS.get(trace.marker.symbol, DOT)
        css = _css(trace) + (" dot" if symbol == DOT else "")
        errors = _listed(trace.error_y.array) or [0.0] * len(places)
        titles = _titles(trace) if len(places) <= MAX_TITLES else [""] * len(places)
        scale = INNER_HEIGHT / (self._y.high - self._y.low)
        for (x, y), error, title in zip(places, errors, titles, strict=True):
            bar = f"m0,{-error * scale:.1f}v{2 * error * scale:.1f}" if error else ""
            if math.isfinite(y):
                yield _path(css, f"M{x:.1f},{y:.1f}{symbol}{bar}", title)

    def _bars(self, trace: Any) -> Iterator[Markup]:
        width = min(20.0, 220.0 / len(trace.x))
        for title, (x, y) in zip(_titles(trace), _rows(trace, "x", "y"), strict=True):
            yield self._box(_css(trace), x, width, (0.0, y), title)
        yield _path("rule ink", f"M0,{self._py(0.0):.1f}H{INNER_WIDTH}")

    def _boxes(self, trace: Any) -> Iterator[Markup]:
        columns = ("x", "lowerfence", "q1", "median", "q3", "upperfence")
        width = min(34.0, 200.0 / len(trace.x))
        for x, low, q1, median, q3, high in _rows(trace, *columns):
            middle = self._px(x)
            whisker = f"M{middle:.1f},{self._py(low):.1f}V{self._py(high):.1f}"
            yield _path("rule ink", whisker)
            title = f"{x}: half of the values from {number(q1)} to {number(q3)}"
            yield self._box(_css(trace), x, width, (q1, q3), title)
            across = f"M{middle - width / 2:.1f},{self._py(median):.1f}h{width:.1f}"
            yield _path("rule paper", across, f"median {number(median)}")

    def _box(
        self, css: str, x: Any, width: float, ends: tuple[float, float], title: str
    ) -> Markup:
        """Return a rectangle around ``x``, ``width`` pixels wide."""
        top, bottom = sorted(map(self._py, ends))
        corner = f"M{self._px(x) - width / 2:.1f},{top:.1f}"
        path = f"{corner}h{width:.1f}v{max(bottom - top, 0.5):.1f}h{-width:.1f}z"
        return _path(f"box {css}", path, title)

    def _frame(self) -> Iterator[Markup]:
        """Yield grid, labels and titles of the axes, and the texts above the panel."""
        for value, label in self._y.ticks():
            y = TOP + self._py(value)
            yield _path("grid", f"M{LEFT},{y:.1f}H{WIDTH - RIGHT}")
            yield _text(LEFT - 6, y + 4, label, "end")
        for value, label in self._x.ticks():
            yield _text(LEFT + self._px(value), HEIGHT - BOTTOM + 15, label, "middle")
        yield _text(2, 12, self._y.title, "start")
        yield _text(WIDTH - RIGHT, HEIGHT - 5, self._x.title, "end")
        for note in self._notes:
            yield _text(LEFT + self._px(note.x), TOP - 5, _plain(note.text), "middle")


def _titles(trace: Any) -> Iterator[str]:
    names = _listed(trace.text) or [trace.name] * len(trace.y)
    for name, (x, y) in zip(names, _rows(trace, "x", "y"), strict=True):
        yield f"{name}, {x if isinstance(x, str) else number(x)}: {number(y)}"


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
    tooltip = Markup("<title>{}</title>").format(_plain(title)) if title else ""
    return Markup('<path class="{}" d="{}">{}</path>').format(css, path, tooltip)


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    mark = '<text x="{}" y="{}" text-anchor="{}">{}</text>'
    return Markup(mark).format(f"{x:.1f}", f"{y:.1f}", anchor, text)
