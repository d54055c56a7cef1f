"""Charts of the searches over coefficients, and of the quality around what they found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from making_runs import combination

from lct_pipeline.reporting.searches import (
    draw_coefficients,
    draw_landscape,
    draw_line,
    draw_search_progress,
)
from lct_pipeline.reporting.theme import METHOD_COLORS

START = {"EMA 0.99": 4.0, "uniform": 5.0}
EVOLUTION = ("evolution", 0, [[3.5, 4.5], [3.6, 3.0]], 3.2)


def history_of(*searches: tuple[str, int, list[list[float]], float]) -> pd.DataFrame:
    """Return the history of searches: method, seed, fitness by generation, and of its mean."""
    rows: list[Any] = []
    for number, (method, seed, generations, mean) in enumerate(searches):
        kinds = ["initial", *["candidate"] * len(generations), "mean"]
        values, spent = [list(START.values()), *generations, [mean]], 0.0
        for kind, fitness in zip(kinds, values, strict=True):
            spent += len(fitness)
            names = START if kind == "initial" else [kind] * len(fitness)
            for name, value in zip(names, fitness, strict=True):
                rows.append((method, seed, number, kind, spent, name, value))
    columns = ["method", "seed", "search", "kind", "spent", "name", "fitness"]
    table = pd.DataFrame(rows, columns=columns).assign(metric="fid", split="train")
    return table.assign(
        evaluation=range(len(table)),
        frechet=table["fitness"],
        alpha=pd.Series([[0.5, 0.5]] * len(table)),
    )


def marks(figure: go.Figure, kind: str, color: str) -> go.Scatter:
    (found,) = [t for t in figure.data if t.name == kind and t.marker.color == color]
    return found


def lines(figure: go.Figure, name: str) -> list[tuple[list[float], list[float]]]:
    return [(list(t.x), list(t.y)) for t in figure.data if t.name == name]


def ends(figure: go.Figure) -> np.ndarray:
    axis = figure.layout.yaxis
    return 10 ** np.array(axis.range) if axis.type == "log" else np.array(axis.range)


def test_evaluations_stand_where_they_were_told_below_the_best_so_far() -> None:
    figure = draw_search_progress(history_of(EVOLUTION))
    points = marks(figure, "candidate", METHOD_COLORS["evolution"])
    assert list(points.x) == [4, 4, 6, 6]
    assert list(points.y) == [3.5, 4.5, 3.6, 3.0]
    assert lines(figure, "evolutionary: best so far") == [([2, 4, 6], [4.0, 3.5, 3.0])]
    star = marks(figure, "mean", METHOD_COLORS["evolution"])
    assert (list(star.x), list(star.y), star.marker.symbol) == ([7], [3.2], "star")


@pytest.mark.parametrize(
    ("steps", "medians"),
    [
        (
            [3.0, 4.0, 2.0, 1.9, 9.0, 1.8, 1.7],
            [3.0, 3.5, 3.0, 2.5, 3.0, 2.0, 1.9],
        ),
        ([], []),
    ],
)
def test_the_line_of_the_gradient_search_is_the_median_of_its_last_five_steps(
    steps: list[float], medians: list[float]
) -> None:
    history = history_of(("gradient", 0, [[step] for step in steps], 1.75))
    ((x, y),) = lines(draw_search_progress(history), "gradient: median of 5 steps")
    assert (x, y) == (list(range(3, 3 + len(steps))), medians)


def test_each_search_has_a_line_and_each_method_one_place_in_the_legend() -> None:
    searches = [
        (method, seed, [[3.0]], 3.0) for method in METHOD_COLORS for seed in (0, 1)
    ]
    figure = draw_search_progress(history_of(*searches))
    drawn = [t for t in figure.data if t.mode == "lines" and t.line.dash is None]
    colors = np.repeat(list(METHOD_COLORS.values()), 2)
    assert [t.line.color for t in drawn] == list(colors)
    assert [t.showlegend for t in drawn] == [True, False] * len(METHOD_COLORS)


def test_the_best_of_the_start_is_a_line_at_its_mean_over_the_searches() -> None:
    table = history_of(EVOLUTION, ("cma", 1, [[3.0]], 3.0))
    second = (table["search"] == 1) & (table["name"] == "EMA 0.99")
    table.loc[second, "fitness"] = 4.4
    figure = draw_search_progress(table)
    ((x, y),) = lines(figure, "best of the start: EMA 0.99, 4.20")
    assert x == [0, 7]
    assert y == pytest.approx([4.2, 4.2])


@pytest.mark.parametrize(
    ("search", "highest", "beyond"),
    [
        (EVOLUTION, 5.08, None),
        (("cma", 0, [[3.0, 1e6, 70.0]], 3.1), 1.1 * 1.25 * 4.0, 2),  # outliers
        (("cma", 0, [[3.9, 50.0]], 12.0), 1.1 * 12.0, 1),  # a bad end is seen whole
    ],
)
def test_outliers_do_not_stretch_the_axis_and_are_counted(
    search: Any, highest: float, beyond: int | None
) -> None:
    figure = draw_search_progress(history_of(search))
    assert highest <= ends(figure)[1] <= 1.06 * highest
    title = figure.layout.title.text
    assert ("above the axis" in title) == (beyond is not None)
    assert beyond is None or f"{beyond} evaluations lie above the axis" in title


@pytest.mark.parametrize(("lowest", "scale"), [(1.05, "log"), (1.15, None)])
def test_the_axis_is_logarithmic_where_what_is_shown_covers_a_factor_of_5(
    lowest: float, scale: str | None
) -> None:
    figure = draw_search_progress(history_of(("cma", 0, [[lowest, 1e6]], 1.2)))
    assert ends(figure)[1] == pytest.approx(5.6, rel=0.05)
    assert figure.layout.yaxis.type == scale


def test_the_axis_names_the_metric_or_the_sum() -> None:
    table = history_of(EVOLUTION)
    weighted = table.assign(fitness=table["fitness"] + 1)
    titles = [
        draw_search_progress(rows).layout.yaxis.title.text for rows in (table, weighted)
    ]
    assert titles == ["FID", "fitness: FID and kernel distance, weighted"]


COMBINATION = combination(alpha=[-0.5, 0.25, 1.25])


@pytest.fixture
def scores() -> pd.DataFrame:
    rows = [
        ("EMA 0.9", "baseline", -1, [0.2, 0.3, 0.5, 0.0], 4.0),
        ("last", "baseline", -1, [0.0, 0.0, 1.0, 0.0], 4.1),
        ("gradient 0, mean", "gradient", 0, [-0.5, 0.25, 1.25, 0.0], 2.0),
        ("gradient 0, step", "gradient", 0, [9.0, 9.0, -17.0, 0.0], 2.5),
        ("gradient 1, step", "gradient", 1, [0.0, 0.1, 0.9, 0.0], 2.4),
        ("cma 0, worse", "cma", 0, [0.7, 0.1, 0.2, 0.0], 3.6),
        ("cma 0, better", "cma", 0, [0.6, 0.1, 0.3, 0.0], 3.5),
        ("cma 1, only", "cma", 1, [0.5, 0.1, 0.4, 0.0], 3.4),
    ]
    columns = ["name", "method", "seed", "alpha", "selection_fitness"]
    return pd.DataFrame(rows, columns=columns)


def test_coefficients_stand_over_their_steps_beside_the_best_of_each_other_search(
    scores: pd.DataFrame,
) -> None:
    figure = draw_coefficients(COMBINATION, scores)
    bars, steps, cma = figure.data[0], [10, 20, 30], "other search: CMA-ES"
    assert (list(bars.x), list(bars.y)) == (steps, [-0.5, 0.25, 1.25])
    assert bars.marker.color == METHOD_COLORS["gradient"]
    assert bars.name == "combination: gradient 0, mean"
    assert lines(figure, "other search: gradient") == [(steps, [0.0, 0.1, 0.9])]
    assert lines(figure, cma) == [(steps, [0.5, 0.1, 0.4]), (steps, [0.6, 0.1, 0.3])]
    assert [t.showlegend for t in figure.data if t.name == cma] == [True, False]


@pytest.mark.parametrize(
    ("best", "name", "alpha"),
    [("best_ema", "EMA 0.9", [0.2, 0.3, 0.5]), ("last", "last", [0.0, 0.0, 1.0])],
)
def test_the_best_baseline_is_a_dotted_line(
    scores: pd.DataFrame, best: str, name: str, alpha: list[float]
) -> None:
    found = COMBINATION.model_copy(update={"best_baseline": best})
    line = draw_coefficients(found, scores).data[-1]
    assert line.name == f"best baseline: {name}"
    assert (list(line.y), line.line.dash) == (alpha, "dot")


def test_a_baseline_of_averages_alone_is_not_drawn(scores: pd.DataFrame) -> None:
    scores.at[0, "alpha"] = [0.0, 0.0, 0.0, 1.0]
    names = [trace.name for trace in draw_coefficients(COMBINATION, scores).data]
    assert not [name for name in names if "baseline" in name]


def test_the_title_gives_the_sums_and_what_was_selected(scores: pd.DataFrame) -> None:
    title = draw_coefficients(COMBINATION, scores).layout.title.text
    assert "sum 1.000, sum of |alpha| 2.00, largest |alpha| 1.25" in title
    assert "better than the best baseline on the validation split" in title
    update = {"is_selected": False, "selected": "EMA 0.9"}
    lost = draw_coefficients(COMBINATION.model_copy(update=update), scores)
    assert "EMA 0.9 in its place" in lost.layout.title.text


AROUND = combination(steps=[10, 20, 30, 40, 50], alpha=[0.2] * 5)
AXIS = [-0.5, 0.5, 1.5]


def line_of(*fitness: float) -> pd.DataFrame:
    x = np.linspace(-0.5, 1.5, len(fitness))
    table = pd.DataFrame({"figure": "line", "x": x, "y": 0.0, "fitness": fitness})
    return table.assign(metric="classifier_frechet_distance")


def plane_of(fitness: Callable[[float, float], float]) -> pd.DataFrame:
    rows = [("plane", x, y, fitness(x, y)) for y in AXIS for x in AXIS]
    table = pd.DataFrame(rows, columns=["figure", "x", "y", "fitness"])
    return table.assign(metric="fid")


def slope(x: float, y: float) -> float:
    return 10 + x - 2 * y


def test_the_line_shows_fitness_by_place_with_best_ema_and_combination() -> None:
    table = pd.concat([line_of(5.0, 4.0, 3.0, 2.0, 6.0)[::-1], plane_of(slope)])
    figure = draw_line(table, AROUND)
    (line,), layout = figure.data, figure.layout
    assert list(line.x) == [-0.5, 0.0, 0.5, 1.0, 1.5]
    assert list(line.y) == [5.0, 4.0, 3.0, 2.0, 6.0]
    assert layout.yaxis.title.text == "Frechet distance (classifier)"
    ends = "best EMA: EMA 0.9; combination: gradient 0"
    assert f"lowest 2.00 at x = 1; {ends}" in layout.title.text
    assert [(mark.x0, mark.x1) for mark in layout.shapes] == [(0, 0), (1, 1)]
    texts = {note.x: note.text for note in layout.annotations}
    assert texts == {0: "best EMA", 1: "combination"}


@pytest.mark.parametrize(("highest", "scale"), [(9.9, None), (10.1, "log")])
def test_the_line_is_logarithmic_beyond_a_factor_of_5(
    highest: float, scale: str | None
) -> None:
    figure = draw_line(line_of(highest, 3.0, 2.0), AROUND)
    low, high = ends(figure)
    assert figure.layout.yaxis.type == scale
    assert low < 2.0 and highest < high < 1.1 * highest


def test_the_plane_has_rows_of_y_columns_of_x_and_the_checkpoints() -> None:
    figure = draw_landscape(pd.concat([line_of(1.0), plane_of(slope)]), AROUND)
    contours, points = figure.data[0], figure.data[-1]
    assert list(contours.x) == list(contours.y) == AXIS
    assert contours.z.tolist() == [[slope(x, y) for x in AXIS] for y in AXIS]
    assert contours.colorbar.title.text == "FID"
    places = zip(points.x, points.y, strict=True)
    assert dict(zip(points.text, places, strict=True)) == {
        "first: step 10": (0, 0),
        "middle: step 30": (1, 0),
        "last: step 50": (0, 1),
        "uniform average": (1 / 3, 1 / 3),
        "best: 6.50": (-0.5, 1.5),
    }
    # a point on an edge is no reason to show what was not measured
    for axis in (figure.layout.xaxis, figure.layout.yaxis):
        assert list(axis.range) == [-0.5, 1.5]


def test_colours_of_a_wide_range_are_logarithmic_with_true_values_beside_them() -> None:
    table = plane_of(lambda x, y: 2.0 * 10 ** (x + 0.5 + y + 0.5))  # 2 to 20 000
    contours = draw_landscape(table, AROUND).data[0]
    assert contours.z[0] == pytest.approx(np.log10([2.0, 20.0, 200.0]))
    assert contours.customdata[0] == pytest.approx([2.0, 20.0, 200.0])
    bar = contours.colorbar
    values = [float(text) for text in bar.ticktext]
    assert values == pytest.approx(10 ** np.array(bar.tickvals))
    assert (values[0], values[-1]) == (2, 20_000)


@pytest.mark.parametrize("x", AXIS)
@pytest.mark.parametrize("y", AXIS)
def test_the_text_of_the_best_point_stays_inside(x: float, y: float) -> None:
    table = plane_of(lambda *place: 1.0 if place == (x, y) else 2.0)
    *_, side = draw_landscape(table, AROUND).data[-1].textposition
    inside = {-0.5: "middle right", 1.5: "middle left"}
    assert side == inside.get(x, "bottom center" if y == 1.5 else "top center")


@pytest.mark.parametrize(
    ("draw", "table", "parameter"),
    [
        (draw_line, plane_of(slope), "num_line_points"),
        (draw_landscape, line_of(1.0, 2.0), "landscape_size"),
        (draw_landscape, line_of()[:0], "landscape_size"),
    ],
)
def test_what_was_not_measured_is_said(
    draw: Callable[..., go.Figure], table: pd.DataFrame, parameter: str
) -> None:
    figure = draw(table, AROUND)
    (note,) = figure.layout.annotations
    assert note.text.endswith(f"combination.{parameter} = 0")
    assert not figure.data
