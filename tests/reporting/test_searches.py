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


def history_of(*searches: tuple[str, int, list[list[float]], float]) -> pd.DataFrame:
    """Return the history of searches: method, seed, fitness by generation, and of its mean."""
    rows: list[dict[str, Any]] = []
    for number, (method, seed, generations, mean) in enumerate(searches):
        about = {"method": method, "seed": seed, "search": number}
        kinds = ["initial", *["candidate"] * len(generations), "mean"]
        spent = 0
        values = [list(START.values()), *generations, [mean]]
        for generation, (kind, fitness) in enumerate(zip(kinds, values, strict=True)):
            spent += len(fitness)
            names = list(START) if kind == "initial" else [kind] * len(fitness)
            told = {"kind": kind, "generation": generation, "spent": float(spent)}
            rows += [
                {**about, **told, "name": name, "fitness": value}
                for name, value in zip(names, fitness, strict=True)
            ]
    table = pd.DataFrame(rows).assign(num_images=800, metric="fid", split="train")
    alphas = pd.Series([[0.5, 0.5]] * len(table))
    return table.assign(
        evaluation=range(len(table)), frechet=table["fitness"], alpha=alphas
    )


def marks(figure: go.Figure, kind: str, color: str) -> go.Scatter:
    (found,) = [t for t in figure.data if t.name == kind and t.marker.color == color]
    return found


def lines(figure: go.Figure, name: str) -> list[tuple[list[float], list[float]]]:
    return [(list(t.x), list(t.y)) for t in figure.data if t.name == name]


def highest(figure: go.Figure) -> float:
    axis = figure.layout.yaxis
    return 10 ** axis.range[1] if axis.type == "log" else axis.range[1]


EVOLUTION = ("evolution", 0, [[3.5, 4.5], [3.6, 3.0]], 3.2)


def test_evaluations_stand_where_their_generation_was_told() -> None:
    figure = draw_search_progress(history_of(EVOLUTION))
    points = marks(figure, "candidate", METHOD_COLORS["evolution"])
    assert list(points.x) == [4, 4, 6, 6]
    assert list(points.y) == [3.5, 4.5, 3.6, 3.0]


def test_a_line_is_the_best_that_was_told_so_far() -> None:
    figure = draw_search_progress(history_of(EVOLUTION))
    assert lines(figure, "evolutionary: best so far") == [([2, 4, 6], [4.0, 3.5, 3.0])]


def test_the_line_of_the_gradient_search_is_the_median_of_its_last_five_steps() -> None:
    steps = [[3.0], [4.0], [2.0], [1.9], [9.0], [1.8], [1.7]]
    figure = draw_search_progress(history_of(("gradient", 0, steps, 1.75)))
    ((x, y),) = lines(figure, "gradient: median of 5 steps")
    assert x == [3, 4, 5, 6, 7, 8, 9]
    assert y == [3.0, 3.5, 3.0, 2.5, 3.0, 2.0, 1.9]


def test_the_search_mean_is_a_star_at_the_end_of_the_budget() -> None:
    figure = draw_search_progress(history_of(EVOLUTION))
    star = marks(figure, "mean", METHOD_COLORS["evolution"])
    assert (list(star.x), list(star.y)) == ([7], [3.2])
    assert star.marker.symbol == "star"


def test_each_search_has_a_line_and_each_method_one_place_in_the_legend() -> None:
    searches = [
        (method, seed, [[3.0]], 3.0) for method in METHOD_COLORS for seed in (0, 1)
    ]
    figure = draw_search_progress(history_of(*searches))
    drawn = [t for t in figure.data if t.mode == "lines" and t.line.dash is None]
    assert [t.line.color for t in drawn] == list(
        np.repeat(list(METHOD_COLORS.values()), 2)
    )
    assert [t.showlegend for t in drawn] == [True, False] * len(METHOD_COLORS)


def test_the_best_of_the_start_is_a_line_at_its_mean_over_the_searches() -> None:
    table = history_of(EVOLUTION, ("cma", 1, [[3.0]], 3.0))
    second = (table["search"] == 1) & (table["name"] == "EMA 0.99")
    table.loc[second, "fitness"] = 4.4
    figure = draw_search_progress(table)
    ((x, y),) = lines(figure, "best of the start: EMA 0.99, 4.20")
    assert x == [0, 7]
    assert y == pytest.approx([4.2, 4.2])


def test_outliers_do_not_stretch_the_axis_and_are_counted() -> None:
    figure = draw_search_progress(history_of(("cma", 0, [[3.0, 1e6, 70.0]], 3.1)))
    assert 1.25 * 4.0 <= highest(figure) <= 1.15 * 1.25 * 4.0
    assert "2 evaluations lie above the axis" in figure.layout.title.text


def test_the_axis_ends_with_the_evaluations_where_none_is_far() -> None:
    figure = draw_search_progress(history_of(EVOLUTION))
    low, high = figure.layout.yaxis.range
    assert (low, high) == pytest.approx((3.0 - 0.08, 5.0 + 0.08))
    assert "above the axis" not in figure.layout.title.text


def test_a_search_that_ends_badly_is_seen_whole() -> None:
    figure = draw_search_progress(history_of(("cma", 0, [[3.9, 50.0]], 12.0)))
    assert 12.0 < highest(figure) <= 1.15 * 12.0


@pytest.mark.parametrize(("lowest", "scale"), [(1.05, "log"), (1.15, None)])
def test_the_axis_is_logarithmic_where_what_is_shown_covers_a_factor_of_5(
    lowest: float, scale: str | None
) -> None:
    figure = draw_search_progress(history_of(("cma", 0, [[lowest, 1e6]], 1.2)))
    assert highest(figure) == pytest.approx(5.6, rel=0.05)
    assert figure.layout.yaxis.type == scale


def test_a_gradient_search_without_a_step_is_drawn() -> None:
    figure = draw_search_progress(history_of(("gradient", 0, [], 3.9)))
    assert lines(figure, "gradient: median of 5 steps") == [([], [])]


def test_the_axis_names_the_metric_or_the_sum() -> None:
    table = history_of(EVOLUTION)
    assert draw_search_progress(table).layout.yaxis.title.text == "FID"
    weighted = table.assign(fitness=table["fitness"] + 1)
    title = draw_search_progress(weighted).layout.yaxis.title.text
    assert title == "fitness: FID and kernel distance, weighted"


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


def test_the_coefficients_stand_over_their_steps(scores: pd.DataFrame) -> None:
    bars = draw_coefficients(COMBINATION, scores).data[0]
    assert (list(bars.x), list(bars.y)) == ([10, 20, 30], [-0.5, 0.25, 1.25])
    assert bars.marker.color == METHOD_COLORS["gradient"]
    assert bars.name == "combination: gradient 0, mean"


def test_of_each_other_search_the_best_is_a_line(scores: pd.DataFrame) -> None:
    figure = draw_coefficients(COMBINATION, scores)
    gradient, cma = "other search: gradient", "other search: CMA-ES"
    steps = [10, 20, 30]
    assert lines(figure, gradient) == [(steps, [0.0, 0.1, 0.9])]
    assert lines(figure, cma) == [(steps, [0.5, 0.1, 0.4]), (steps, [0.6, 0.1, 0.3])]
    assert [t.showlegend for t in figure.data if t.name == cma] == [True, False]


@pytest.mark.parametrize(
    ("best", "name", "alpha"),
    [
        ("best_ema", "EMA 0.9", [0.2, 0.3, 0.5]),
        ("last", "last", [0.0, 0.0, 1.0]),
    ],
)
def test_the_best_baseline_is_a_dotted_line(
    scores: pd.DataFrame, best: str, name: str, alpha: list[float]
) -> None:
    found = COMBINATION.model_copy(update={"best_baseline": best})
    line = draw_coefficients(found, scores).data[-1]
    assert line.name == f"best baseline: {name}"
    assert list(line.y) == alpha
    assert line.line.dash == "dot"


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


def points(figure: go.Figure) -> dict[str, tuple[float, float]]:
    """Return where the points of the plane stand, by their texts."""
    found = figure.data[-1]
    places = zip(found.x, found.y, strict=True)
    return dict(zip(found.text, places, strict=True))


def test_the_line_shows_fitness_by_place_and_names_the_metric() -> None:
    table = pd.concat([line_of(5.0, 4.0, 3.0, 2.0, 6.0)[::-1], plane_of(slope)])
    figure = draw_line(table, AROUND)
    (line,) = figure.data
    assert list(line.x) == [-0.5, 0.0, 0.5, 1.0, 1.5]
    assert list(line.y) == [5.0, 4.0, 3.0, 2.0, 6.0]
    assert figure.layout.yaxis.title.text == "Frechet distance (classifier)"
    assert (
        "lowest 2.00 at x = 1; best EMA: EMA 0.9; combination: gradient 0"
        in figure.layout.title.text
    )


def test_best_ema_and_combination_are_marked_at_0_and_1() -> None:
    layout = draw_line(line_of(5.0, 4.0, 3.0), AROUND).layout
    assert [(mark.x0, mark.x1) for mark in layout.shapes] == [(0, 0), (1, 1)]
    texts = {note.x: note.text for note in layout.annotations}
    assert texts == {0: "best EMA", 1: "combination"}


@pytest.mark.parametrize(("highest", "scale"), [(9.9, None), (10.1, "log")])
def test_the_line_is_logarithmic_beyond_a_factor_of_5(
    highest: float, scale: str | None
) -> None:
    axis = draw_line(line_of(highest, 3.0, 2.0), AROUND).layout.yaxis
    ends = np.array(axis.range)
    low, high = 10**ends if scale else ends
    assert axis.type == scale
    assert low < 2.0 and highest < high < 1.1 * highest


def test_the_plane_has_rows_of_y_and_columns_of_x() -> None:
    figure = draw_landscape(pd.concat([line_of(1.0), plane_of(slope)]), AROUND)
    contours = figure.data[0]
    assert list(contours.x) == list(contours.y) == AXIS
    assert contours.z.tolist() == [[slope(x, y) for x in AXIS] for y in AXIS]
    assert contours.colorbar.title.text == "FID"


def test_colours_of_a_wide_range_are_logarithmic_with_true_values_beside_them() -> None:
    table = plane_of(lambda x, y: 2.0 * 10 ** (x + 0.5 + y + 0.5))  # 2 to 20 000
    contours = draw_landscape(table, AROUND).data[0]
    assert contours.z[0] == pytest.approx(np.log10([2.0, 20.0, 200.0]))
    assert contours.customdata[0] == pytest.approx([2.0, 20.0, 200.0])
    bar = contours.colorbar
    assert [float(text) for text in bar.ticktext] == pytest.approx(
        10 ** np.array(bar.tickvals)
    )
    assert float(bar.ticktext[0]) == 2 and float(bar.ticktext[-1]) == 20_000


def test_checkpoints_their_mean_and_the_best_of_the_grid_are_marked() -> None:
    figure = draw_landscape(plane_of(slope), AROUND)
    assert points(figure) == {
        "first: step 10": (0, 0),
        "middle: step 30": (1, 0),
        "last: step 50": (0, 1),
        "uniform average": (1 / 3, 1 / 3),
        "best: 6.50": (-0.5, 1.5),
    }
    # a point on an edge is no reason to show what was not measured
    for axis in (figure.layout.xaxis, figure.layout.yaxis):
        assert list(axis.range) == [-0.5, 1.5]


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
        (draw_line, plane_of(slope), "combination.num_line_points = 0"),
        (draw_landscape, line_of(1.0, 2.0), "combination.landscape_size = 0"),
        (draw_landscape, line_of()[:0], "combination.landscape_size = 0"),
    ],
)
def test_what_was_not_measured_is_said(
    draw: Callable[..., go.Figure], table: pd.DataFrame, parameter: str
) -> None:
    figure = draw(table, AROUND)
    (note,) = figure.layout.annotations
    assert note.text.endswith(parameter)
    assert not figure.data
