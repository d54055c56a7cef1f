"""Figures of the quality around a combination."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from making_runs import combination

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


def points(figure: go.Figure) -> dict[str, tuple[float, float]]:
    """Return where the points of the plane stand, by their texts."""
    found = figure.data[-1]
    places = zip(found.x, found.y, strict=True)
    return dict(zip(found.text, places, strict=True))


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


def test_checkpoints_their_mean_and_the_best_of_the_grid_are_marked() -> None:
    figure = draw_landscape(plane_of(slope), COMBINATION)
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
    *_, side = draw_landscape(table, COMBINATION).data[-1].textposition
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
    figure = draw(table, COMBINATION)
    (note,) = figure.layout.annotations
    assert note.text.endswith(parameter)
    assert not figure.data
