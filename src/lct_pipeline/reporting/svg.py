"""Small charts as inline SVG, whose colours and fonts are those of the page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from lct_pipeline.reporting.words import MINUS, number

WIDTH, HEIGHT = 360, 236  # about a phone's width: text keeps its size there
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 34, 38
MAX_TICKS = 5


@dataclass(frozen=True)
class Scale:
    """Maps values from ``low`` to ``high`` to [0, 1], linearly or by their logarithm."""

    low: float
    high: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the place of a value, between 0 and 1; beyond the ends it stays at them."""
        low, high = self._of(self.low), self._of(self.high)
        clipped = min(max(value, self.low), self.high)
        return (self._of(clipped) - low) / ((high - low) or 1.0)

    def _of(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def ticks(self) -> list[float]:
        """Return round values to label."""
        return self._decades() if self.log else self._linear()

    def _linear(self) -> list[float]:
        span = (self.high - self.low) or 1.0
        power = 10.0 ** math.floor(math.log10(span / MAX_TICKS))
        step = next(m * power for m in (1, 2, 5, 10) if span / (m * power) <= MAX_TICKS)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [i * step for i in range(first, last + 1)]

    def _decades(self) -> list[float]:
        low, high = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        for marks in ((1, 2, 5), (1, 3), (1,)):
            found = [m * 10.0**p for p in range(low, high + 1) for m in marks]
            inside = [
                v for v in found if self.low <= v * 1.0001 and v <= self.high * 1.0001
            ]
            if len(inside) <= MAX_TICKS + 1:
                break
        every = -(-len(inside) // (MAX_TICKS + 1))
        return inside[::every]


def scale_of(
    values: Iterable[float], *, log: bool = False, zero: bool = False
) -> Scale:
    """Return a scale that holds all finite values with some room; ``zero`` starts it there."""
    known = [v for v in values if math.isfinite(v) and (v > 0 or not log)]
    if not known:
        return Scale(0.1, 1.0, log)
    low, high = min(known), max(known)
    if log:
        room = (high / low) ** 0.06 if high > low else 1.5
        return Scale(low / room, high * room, log=True)
    room = 0.06 * ((high - low) or abs(high) or 1.0)
    return Scale(0.0 if zero and low >= 0 else low - room, high + room)


class Plot:
    """A chart that is drawn mark by mark.

    Args:
        x: Horizontal scale.
        y: Vertical scale.
        x_title: What the horizontal axis shows.
        y_title: What the vertical axis shows, with its unit.
        x_labels: Labels at the places 0, 1, ... instead of numbers.
    """

    def __init__(
        self,
        x: Scale,
        y: Scale,
        x_title: str,
        y_title: str,
        x_labels: Sequence[str] | None = None,
    ) -> None:
        self._x, self._y = x, y
        self._titles = (x_title, y_title)
        self._labels = x_labels
        self._marks: list[Markup] = []

    def _px(self, value: float) -> float:
        return LEFT + self._x(value) * (WIDTH - LEFT - RIGHT)

    def _py(self, value: float) -> float:
        return HEIGHT - BOTTOM - self._y(value) * (HEIGHT - TOP - BOTTOM)

    def line(
        self, xs: Iterable[float], ys: Iterable[float], css: str, title: str = ""
    ) -> None:
        """Draw a line through the points that are finite."""
        points = " ".join(
            f"{self._px(x):.1f},{self._py(y):.1f}"
            for x, y in zip(xs, ys, strict=True)
            if math.isfinite(y)
        )
        self._add(
            '<polyline class="line {}" points="{}">{}</polyline>', css, points, title
        )

    def dot(
        self, x: float, y: float, css: str, title: str = "", radius: float = 3
    ) -> None:
        """Draw a point; one beyond the scales is left out."""
        if self._x.low <= x <= self._x.high and self._y.low <= y <= self._y.high:
            mark = '<circle class="dot {}" cx="{}" cy="{}" r="{}">{}</circle>'
            self._add(
                mark, css, f"{self._px(x):.1f}", f"{self._py(y):.1f}", radius, title
            )

    def box(
        self, x: float, width: float, low: float, high: float, css: str, title: str = ""
    ) -> None:
        """Draw a rectangle around ``x``, ``width`` pixels wide."""
        top, bottom = self._py(high), self._py(low)
        mark = '<rect class="box {}" x="{}" y="{}" width="{}" height="{}">{}</rect>'
        left, height = self._px(x) - width / 2, max(bottom - top, 0.5)
        sizes = (f"{v:.1f}" for v in (left, top, width, height))
        self._add(mark, css, *sizes, title)

    def tick(self, x: float, width: float, y: float, css: str, title: str = "") -> None:
        """Draw a short horizontal line at ``x``."""
        left, right, height = (
            self._px(x) - width / 2,
            self._px(x) + width / 2,
            self._py(y),
        )
        self._segment(left, height, right, height, css, title)

    def across(self, y: float, css: str, title: str = "") -> None:
        """Draw a horizontal line over the whole width."""
        self._segment(LEFT, self._py(y), WIDTH - RIGHT, self._py(y), css, title)

    def stem(self, x: float, low: float, high: float, css: str) -> None:
        """Draw a vertical line between two values."""
        self._segment(self._px(x), self._py(low), self._px(x), self._py(high), css, "")

    def mark(self, x: float, label: str) -> None:
        """Draw a vertical line over the whole height, with a label at its top."""
        at = self._px(x)
        self._segment(at, TOP, at, HEIGHT - BOTTOM, "stage", label)
        text = '<text class="stage" x="{}" y="{}">{}</text>'
        self._add_text(text, f"{at:.1f}", TOP - 5, label)

    def _segment(
        self, x1: float, y1: float, x2: float, y2: float, css: str, title: str
    ) -> None:
        mark = '<line class="rule {}" x1="{}" y1="{}" x2="{}" y2="{}">{}</line>'
        self._add(mark, css, *(f"{v:.1f}" for v in (x1, y1, x2, y2)), title)

    def _add(self, mark: str, *values: object) -> None:
        *others, title = values
        tooltip = Markup("<title>{}</title>").format(title) if title else ""
        self._marks.append(Markup(mark).format(*others, tooltip))

    def _add_text(self, mark: str, *values: object) -> None:
        self._marks.append(Markup(mark).format(*values))

    def svg(self, description: str) -> Markup:
        """Return the chart.

        Args:
            description: What it shows, for those who cannot see it.
        """
        head = Markup(
            '<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">'
        ).format(WIDTH, HEIGHT, description)
        body = Markup("").join([*self._axes(), *self._marks])
        return head + body + Markup("</svg>")

    def _axes(self) -> Iterable[Markup]:
        x_title, y_title = (escape(title) for title in self._titles)
        bottom = HEIGHT - BOTTOM
        y_ticks = self._y.ticks()
        for value, label in zip(
            y_ticks, _labels(y_ticks, log=self._y.log), strict=True
        ):
            yield Markup(
                '<line class="grid" x1="{}" x2="{}" y1="{y}" y2="{y}"/>'
                '<text x="{}" y="{}" text-anchor="end">{}</text>'
            ).format(
                LEFT,
                WIDTH - RIGHT,
                LEFT - 6,
                f"{self._py(value) + 4:.1f}",
                label,
                y=f"{self._py(value):.1f}",
            )
        for value, label in self._x_ticks():
            text = '<text x="{}" y="{}" text-anchor="middle">{}</text>'
            yield Markup(text).format(f"{self._px(value):.1f}", bottom + 15, label)
        yield Markup('<text class="axis" x="2" y="12">{}</text>').format(y_title)
        end = '<text class="axis" x="{}" y="{}" text-anchor="end">{}</text>'
        yield Markup(end).format(WIDTH - RIGHT, HEIGHT - 5, x_title)

    def _x_ticks(self) -> Iterable[tuple[float, str]]:
        if self._labels is None:
            ticks = self._x.ticks()
            return zip(ticks, _labels(ticks, log=self._x.log), strict=True)
        every = -(-len(self._labels) // 8)
        return [(i, s) for i, s in enumerate(self._labels) if i % every == 0]


def _labels(ticks: Sequence[float], *, log: bool) -> list[str]:
    """Return the ticks as text; on a linear scale with the decimals that their distance has."""
    if log or len(ticks) < 2 or max(map(abs, ticks)) >= 1e6:
        return [_label(value) for value in ticks]
    decimals = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
    return [f"{value + 0.0:,.{decimals}f}".replace("-", MINUS) for value in ticks]


def _label(value: float) -> str:
    if value == 0 or abs(value) < 1e-12:
        return "0"
    if abs(value) >= 1e6 or abs(value) < 1e-3:
        return f"{value:.0e}".replace("e+0", "e").replace("e-0", f"e{MINUS}")
    text = number(value, 3)
    return text.rstrip("0").rstrip(".") if "." in text else text
