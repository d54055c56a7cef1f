"""Figures of the quality around a combination."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from made_results import combination

from lct_pipeline.reporting.landscapes import draw_landscape, draw_line

COMBINATION = combination(steps=[10, 20, 30, 40, 50], alpha=[0.2] * 5)
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


def place(figure: go.Figure, text: str) -> tuple[float, float]:
    """Return where the point with a text stands; its text stands there too."""
    (point,) = [trace for trace in figure.data if trace.name == text]
    (written,) = [note for note in figure.layout.annotations if note.text == text]
    assert (written.x, written.y) == (point.x[0], point.y[0])
    return point.x[0], point.y[0]


def test_the_line_shows_fitness_by_place_and_names_the_metric() -> None:
    table = pd.concat([line_of(5.0, 4.0, 3.0, 2.0, 6.0)[::-1], plane_of(slope)])
    figure = draw_line(table, COMBINATION)
    (line,) = figure.data
    assert list(line.x) == [-0.5, 0.0, 0.5, 1.0, 1.5]
    assert list(line.y) == [5.0, 4.0, 3.0, 2.0, 6.0]
    assert figure.layout.yaxis.title.text == "Frechet distance (classifier)"
    assert (
        "lowest 2.00 at x = 1; best EMA: EMA 0.9; combination: gradient 0"
        in figure.layout.title.text
    )


def test_best_ema_and_combination_are_marked_at_0_and_1() -> None:
    layout = draw_line(line_of(5.0, 4.0, 3.0), COMBINATION).layout
    assert [(mark.x0, mark.x1) for mark in layout.shapes] == [(0, 0), (1, 1)]
    texts = {note.x: note.text for note in layout.annotations}
    assert texts == {0: "best EMA", 1: "combination"}


@pytest.mark.parametrize(("highest", "scale"), [(9.9, None), (10.1, "log")])
def test_the_line_is_logarithmic_beyond_a_factor_of_5(
    highest: float, scale: str | None
) -> None:
    axis = draw_line(line_of(highest, 3.0, 2.0), COMBINATION).layout.yaxis
    ends = np.array(axis.range)
    low, high = 10**ends if scale else ends
    assert axis.type == scale
    assert low < 2.0 and highest < high < 1.1 * highest


def test_the_plane_has_rows_of_y_and_columns_of_x() -> None:
    figure = draw_landscape(pd.concat([line_of(1.0), plane_of(slope)]), COMBINATION)
    contours = figure.data[0]
    assert list(contours.x) == list(contours.y) == AXIS
    assert contours.z.tolist() == [[slope(x, y) for x in AXIS] for y in AXIS]
    assert contours.colorbar.title.text == "FID"


def test_colours_of_a_wide_range_are_logarithmic_with_true_values_beside_them() -> None:
    table = plane_of(lambda x, y: 2.0 * 10 ** (x + 0.5 + y + 0.5))  # 2 to 20 000
    contours = draw_landscape(table, COMBINATION).data[0]
    assert contours.z[0] == pytest.approx(np.log10([2.0, 20.0, 200.0]))
    assert contours.customdata[0] == pytest.approx([2.0, 20.0, 200.0])
    bar = contours.colorbar
    assert [float(text) for text in bar.ticktext] == pytest.approx(
        10 ** np.array(bar.tickvals)
    )
    assert float(bar.ticktext[0]) == 2 and float(bar.ticktext[-1]) == 20_000


def test_checkpoints_and_their_mean_are_marked_at_their_coordinates() -> None:
    figure = draw_landscape(plane_of(slope), COMBINATION)
    assert place(figure, "first: step 10") == (0, 0)
    assert place(figure, "middle: step 30") == (1, 0)
    assert place(figure, "last: step 50") == (0, 1)
    assert place(figure, "uniform average") == pytest.approx((1 / 3, 1 / 3))


def test_the_best_point_of_the_grid_is_marked_with_its_value() -> None:
    figure = draw_landscape(plane_of(slope), COMBINATION)
    assert place(figure, "best: 6.50") == (-0.5, 1.5)
    assert list(figure.layout.xaxis.range) == [
        -0.5,
        1.5,
    ]  # a point on an edge is no reason
    assert list(figure.layout.yaxis.range) == [
        -0.5,
        1.5,
    ]  # to show what was not measured


@pytest.mark.parametrize("x", AXIS)
@pytest.mark.parametrize("y", AXIS)
def test_the_text_of_the_best_point_stays_inside(x: float, y: float) -> None:
    table = plane_of(lambda *place: 1.0 if place == (x, y) else 2.0)
    notes = draw_landscape(table, COMBINATION).layout.annotations
    (note,) = [note for note in notes if note.text.startswith("best")]
    assert note.xanchor == {-0.5: "left", 0.5: "center", 1.5: "right"}[x]
    if x == 0.5:
        assert note.yanchor == ("top" if y == 1.5 else "bottom")


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
    figure = draw(table, COMBINATION)
    (note,) = figure.layout.annotations
    assert note.text.endswith(parameter)
    assert not figure.data
