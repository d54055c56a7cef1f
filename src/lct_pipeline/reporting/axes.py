"""Axes of plotly: from a value to its place, and ticks."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from lct_pipeline.reporting.theme import log_ticks
from lct_pipeline.reporting.words import MINUS

MAX_TICKS = 6
TAGS = re.compile("</?(?:b|br|sub)>")  # that plotly understands in texts


def plain(text: str) -> str:
    """Return a text of plotly without its marks."""
    return TAGS.sub("", text.replace("<sub>", "_").replace("<br>", " "))


def listed(values: Any) -> list[Any]:
    """Return values of plotly as a list, in which NaN is what is missing."""
    found = [] if values is None else np.asarray(values).tolist()
    return [math.nan if value is None else value for value in found]


class Axis:
    """Maps values to [0, 1]: linearly, by their logarithm, or by the place of a category.

    Args:
        layout: The axis in the layout of the chart.
        values: All that has to be on it.
    """

    def __init__(self, layout: Any, values: Sequence[Any]) -> None:
        self.title = plain(layout.title.text or "")
        self.log = layout.type == "log"
        self.categories = list(dict.fromkeys(v for v in values if isinstance(v, str)))
        given = listed(layout.tickvals)
        texts = listed(layout.ticktext) or [f"{value:g}" for value in given]
        self._given = dict(zip(given, texts, strict=True))
        self.low, self.high = self._ends(layout, values)

    def _ends(self, layout: Any, values: Sequence[Any]) -> tuple[float, float]:
        if self.categories:
            return -0.6, len(self.categories) - 0.4
        if layout.range is not None:
            return layout.range[0], layout.range[1]
        known = [v for v in map(self._of, values) if math.isfinite(v)]
        low, high = min(known), max(known)
        room = 0.06 * ((high - low) or abs(high) or 1.0)
        return (0.0 if layout.rangemode == "tozero" else low - room), high + room

    def _of(self, value: Any) -> float:
        if isinstance(value, str):
            return self.categories.index(value)
        if self.log:
            return math.log10(value) if value > 0 else math.nan
        return value

    def __call__(self, value: Any) -> float:
        """Return the place of a value: between 0 and 1 on the axis; NaN has none."""
        return (self._of(value) - self.low) / (self.high - self.low)

    def ticks(self) -> list[tuple[Any, str]]:
        """Return values with their labels, not too many of them."""
        found = list(self._labels().items())
        inside = [(v, label) for v, label in found if -1e-6 <= self(v) <= 1 + 1e-6]
        return inside[:: -(-len(inside) // MAX_TICKS) or 1]

    def _labels(self) -> dict[Any, str]:
        if self.categories:
            return {name: name for name in self.categories}
        if self._given:
            return self._given
        if self.log:
            return dict(
                zip(*log_ticks(10**self.low, 10**self.high).values(), strict=True)
            )
        places = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(self.low, self.high)
        if max(map(abs, places)) >= 1e6:
            return {value: f"{value:g}" for value in places}
        decimals = max(0, -math.floor(math.log10(places[1] - places[0]) + 1e-9))
        return {v: f"{v + 0.0:,.{decimals}f}".replace("-", MINUS) for v in places}
