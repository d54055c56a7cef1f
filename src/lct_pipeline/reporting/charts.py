"""The report's charts, from the tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from pandas import DataFrame

from lct_pipeline.datasets.results import CombinationResult
from lct_pipeline.reporting.fitness_axes import fitness_title
from lct_pipeline.reporting.svg import Plot, Scale, scale_of
from lct_pipeline.reporting.words import METHODS, MODELS, metric_name, number

MAX_POINTS = 240  # of a line
MEDIAN_STEPS = 5  # of a gradient search, whose single steps are noisy
LOSSES = {
    "loss": ("ink", "all together"),
    "consistency_loss": ("a", "consistency loss"),
    "diffusion_loss": ("b", "diffusion loss"),
}
SCALES = {"spread": ("a", "spread, measured"), "c": ("b", "c of the loss")}


@dataclass(frozen=True)
class Chart:
    """A chart with its title, the meaning of its colours, and a sentence about it."""

    title: str
    svg: Markup
    legend: list[tuple[str, str]]
    caption: str = ""


def training_charts(metrics: DataFrame) -> list[Chart]:
    """Return the losses, and the scale c beside what it stands for, over the steps."""
    found = [_curves(metrics, LOSSES, "Losses", "loss (log scale)")]
    found.append(_curves(metrics, SCALES, "Scale c", "standard deviation (log scale)"))
    return [chart for chart in found if chart is not None]


def _curves(
    metrics: DataFrame, names: dict[str, tuple[str, str]], title: str, y_title: str
) -> Chart | None:
    table = thinned(metrics)
    names = {
        n: about for n, about in names.items() if n in table and table[n].gt(0).any()
    }
    if not names:
        return None
    values = pd.concat([table[name] for name in names])
    x = Scale(0, float(metrics["step"].max()))
    plot = Plot(x, scale_of(values, log=True), "training step", y_title)
    for step, num_levels in stages(metrics):
        plot.mark(step, f"N={num_levels}")
    for name, (css, label) in names.items():
        shown = table[table[name] > 0]
        plot.line(shown["step"], shown[name], css, label)
    return Chart(
        title, plot.svg(f"{title} over the training steps"), list(names.values())
    )


def thinned(metrics: DataFrame) -> DataFrame:
    """Return means over blocks of neighbouring rows, at most ``MAX_POINTS`` of them."""
    numbers = metrics.select_dtypes("number")
    block = -(-len(metrics) // MAX_POINTS)
    return numbers.groupby(np.arange(len(metrics)) // block).mean()


def stages(metrics: DataFrame) -> list[tuple[int, int]]:
    """Return the first step and the number of levels N of each stage of the curriculum."""
    if "num_levels" not in metrics:
        return []
    known = metrics.dropna(subset=["num_levels"])
    first = known[known["num_levels"] != known["num_levels"].shift()]
    ends = known["step"].shift(fill_value=0)[first.index]
    return [(int(s), int(n)) for s, n in zip(ends, first["num_levels"], strict=True)]


def box_chart(
    rows: DataFrame, labels: list[str], x_title: str, y_title: str, title: str
) -> Chart:
    """Return boxes of quartiles, with fences and extremes.

    Args:
        rows: Of outlier statistics, one for each box.
        labels: Of the boxes.
        x_title: What tells the boxes apart.
        y_title: What the values are.
        title: Of the chart.
    """
    values = rows[["minimum", "maximum", "outer_low", "outer_high"]].to_numpy().ravel()
    plot = Plot(
        Scale(-0.6, len(rows) - 0.4), scale_of(values), x_title, y_title, labels
    )
    width = min(34.0, 200.0 / len(rows))
    for place, (label, row) in enumerate(
        zip(labels, rows.to_dict("records"), strict=True)
    ):
        _box(plot, place, width, label, row)
    return Chart(title, plot.svg(f"{title}: a box for each {x_title}"), [])


def _box(plot: Plot, x: int, width: float, label: str, row: dict[Any, Any]) -> None:
    low = max(row["inner_low"], row["minimum"])
    high = min(row["inner_high"], row["maximum"])
    about = (
        f"{label}: half of the values from {number(row['q1'])} to {number(row['q3'])}"
    )
    plot.stem(x, low, high, "ink")
    plot.box(x, width, row["q1"], row["q3"], "a", about)
    plot.tick(x, width, row["median"], "paper", f"median {number(row['median'])}")
    for side in ("low", "high"):
        for fence, css in (("inner", "b"), ("outer", "c")):
            value = row[f"{fence}_{side}"]
            plot.tick(x, 0.8 * width, value, css, f"{fence} fence {number(value)}")
    for end in ("minimum", "maximum"):
        plot.dot(x, row[end], "ink", f"{end} {number(row[end])}", radius=2)


def spread_chart(td_summary: DataFrame) -> Chart:
    """Return the measured spread of the temporal differences at each N, and the laws of c."""
    columns = ["spread", "c_paper", "c_fitted"]
    levels = td_summary["num_levels"].astype(float)
    values = td_summary[columns].to_numpy().ravel()
    y = scale_of(values, log=True)
    plot = Plot(
        scale_of(levels, log=True), y, "number of levels N", "standard deviation"
    )
    plot.line(levels, td_summary["c_paper"], "b")
    plot.line(levels, td_summary["c_fitted"], "c")
    for n, spread in zip(levels, td_summary["spread"], strict=True):
        plot.dot(n, spread, "a", f"N={n:.0f}: {number(spread)}", radius=4)
    legend = [("a", "measured"), ("b", "the paper's law"), ("c", "the law, fitted")]
    return Chart("Spread by number of levels", plot.svg("Spread by N"), legend)


def search_chart(history: DataFrame) -> Chart | None:
    """Return what each search has reached over the budget it has spent; None before that."""
    most = history.groupby(["search", "generation"])["num_images"].transform("max")
    full = history[history["num_images"] == most].sort_values("evaluation")
    initial = full[full["kind"] == "initial"].groupby("name")["fitness"].mean()
    reached = {key: _reached(rows) for key, rows in full.groupby(["method", "search"])}
    lines = {key: line for key, line in reached.items() if len(line)}
    if not lines:
        return None
    ends, start = pd.concat(list(lines.values())), float(initial.min())
    y = scale_of([ends.min(), min(ends.max(), 1.3 * start), start])
    plot = Plot(
        Scale(
            min(line.index[0] for line in lines.values()), float(history["spent"].max())
        ),
        y,
        "budget spent, full evaluations",
        fitness_title(history),
    )
    plot.across(
        start, "dashed", f"best of the start: {initial.idxmin()}, {number(start)}"
    )
    for (method, search), line in lines.items():
        title = (
            f"{METHODS[str(method)]} search {search}: ends at {number(line.iloc[-1])}"
        )
        plot.line(line.index, line, f"m-{method}", title)
    methods = dict.fromkeys(str(method) for method, _ in lines)
    legend = [(f"m-{method}", METHODS[method]) for method in methods]
    legend.append(("dashed", "best that it started from"))
    return Chart(
        "Progress of the searches", plot.svg("Progress of the searches"), legend
    )


def _reached(of_search: DataFrame) -> pd.Series:
    """Return the best so far by the budget spent; of gradient steps, the median of the last few."""
    rows = of_search[of_search["kind"] != "mean"]
    if rows["method"].iloc[0] == "gradient":
        steps = rows[rows["kind"] == "candidate"].set_index("spent")["fitness"]
        return steps.rolling(MEDIAN_STEPS, min_periods=1).median()
    return rows.groupby("spent")["fitness"].min().cummin()


def coefficients_chart(combination: CombinationResult) -> Chart:
    """Return the coefficient of each checkpoint."""
    steps, alpha = combination.steps, combination.alpha
    width = min(20.0, 220.0 / len(steps))
    plot = Plot(
        scale_of(steps), scale_of([0.0, *alpha]), "training step", "coefficient"
    )
    plot.across(0.0, "ink")
    for step, value in zip(steps, alpha, strict=True):
        title = f"step {step}: {number(value)}"
        plot.box(step, width, min(0, value), max(0, value), "s-combined", title)
    return Chart("Coefficient of each checkpoint", plot.svg("Coefficients"), [])


def size_chart(distance_by_size: DataFrame) -> Chart | None:
    """Return the distance by the number of images of each model with the fewest evaluations."""
    table = distance_by_size[distance_by_size["nfe"] > 0]
    if table.empty:
        return None
    first = table.iloc[0]
    same = [table[c] == first[c] for c in ("metric", "reference", "nfe")]
    table = table[np.logical_and.reduce(same)]
    name = metric_name(str(first["metric"]))
    x, y = scale_of(table["num_images"], log=True), scale_of(table["mean"])
    plot, legend = Plot(x, y, "generated images", name), []
    for model, rows in table.groupby("model", sort=False):
        css, label = f"s-{model}", MODELS[str(model)]
        legend.append((css, label))
        plot.line(rows["num_images"], rows["mean"], css, label)
        for n, mean in zip(rows["num_images"], rows["mean"], strict=True):
            plot.dot(n, mean, css, f"{label}, {n:.0f} images: {number(mean)}")
    return Chart("Distance by number of images", plot.svg(f"{name} by images"), legend)


def two_step_chart(choice: DataFrame) -> Chart | None:
    """Return the distance by the level at which a second step starts; None without such a step.

    The model is the final one.
    """
    choice = choice[choice["model"] == choice["model"].iloc[-1]]
    table = choice.dropna(subset=["intermediate_sigma"])
    if table.empty:
        return None
    name = metric_name(str(choice["metric"].iloc[0]))
    one = float(choice["distance"].iloc[0])
    y = scale_of([one, *table["distance"]])
    plot = Plot(scale_of(table["intermediate_sigma"], log=True), y, "noise level", name)
    plot.across(one, "dashed", f"one step: {number(one)}")
    legend = [("dashed", "one step")]
    for (renoise, rows), css in zip(table.groupby("renoise"), "ab", strict=False):
        label = {"fresh": "new noise", "same": "the first noise again"}[str(renoise)]
        legend.append((css, label))
        plot.line(rows["intermediate_sigma"], rows["distance"], css, label)
        for sigma, distance in zip(
            rows["intermediate_sigma"], rows["distance"], strict=True
        ):
            plot.dot(
                sigma, distance, css, f"{label} at {number(sigma)}: {number(distance)}"
            )
    return Chart("Where a second step starts", plot.svg("Second step"), legend)
