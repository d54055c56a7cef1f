"""What the figures of the combination stage share: colours of methods, and scales of fitness."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from pandas import DataFrame

from lct_pipeline.reporting.words import metric_title

# the palette of Okabe and Ito: these stay apart for the colour-blind
METHOD_COLORS = {
    "gradient": "#0072B2",
    "evolution": "#D55E00",
    "cma": "#009E73",
    "random": "#CC79A7",
}
METHOD_TITLES = {
    "gradient": "gradient",
    "evolution": "evolutionary",
    "cma": "CMA-ES",
    "random": "random",
}
BASELINE_COLOR = "#333333"
WIDE = 5  # the factor beyond which a scale is logarithmic


def fitness_title(search_history: DataFrame) -> str:
    """Return what was searched by: a metric, or a sum in which it is weighted."""
    metric = metric_title(str(search_history["metric"].iloc[0]))
    if search_history["fitness"].equals(search_history["frechet"]):
        return metric
    return f"fitness: {metric} and kernel distance, weighted"


def is_wide(values: Iterable[float]) -> bool:
    """Return whether positive values cover more than a factor of ``WIDE``."""
    low, high = min(values), max(values)
    return low > 0 and high / low > WIDE


def fitness_axis(low: float, high: float) -> dict[str, Any]:
    """Return an axis with a margin around two fitnesses, logarithmic where they are far apart."""
    if not is_wide((low, high)):
        margin = 0.04 * (high - low)
        return {"range": [low - margin, high + margin]}
    ends = np.log10([low, high])
    margin = 0.04 * (ends[1] - ends[0])
    return {
        "type": "log",
        "range": [ends[0] - margin, ends[1] + margin],
        **log_ticks(low, high),
    }


def log_ticks(low: float, high: float) -> dict[str, Any]:
    """Return places and texts of round values for a logarithmic scale, neither few nor many."""
    steps = (1, 1.5, 2, 3, 5, 7) if high / low < 30 else (1, 2, 5)
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    values = [step * 10.0**decade for decade in decades for step in steps]
    shown = [value for value in values if low <= value <= high]
    return {"tickvals": shown, "ticktext": [f"{value:g}" for value in shown]}
