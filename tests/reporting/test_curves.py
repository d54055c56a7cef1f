"""Curves of training, of a second step, and of the distance by the number of images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from report_results import metrics

from lct_pipeline.reporting.curves import (
    MAX_POINTS,
    draw_size_bias,
    draw_training_curves,
    draw_two_step_sweep,
    stages,
    thinned,
)


def test_training_curves_show_each_column_over_the_steps_in_its_panel() -> None:
    table = metrics()
    figure = draw_training_curves(table)
    panels: dict[str, list[str]] = {}
    for line in figure.data:
        panels.setdefault(line.yaxis, []).append(line.name)
        assert list(line.x) == table["step"].tolist()
    assert list(panels.values()) == [
        ["loss", "consistency loss", "diffusion loss"],
        ["N"],
        ["c", "RMS"],
        ["images per second"],
    ]
    for line, column in zip(figure.data, ("loss", "consistency_loss"), strict=False):
        assert list(line.y) == table[column].tolist()


def test_vertical_lines_are_where_the_number_of_levels_changes() -> None:
    assert stages(metrics()) == [(0, 10), (50, 20)]
    layout = draw_training_curves(metrics()).layout
    for panel in ("x", "x2", "x3", "x4"):
        assert [s.x0 for s in layout.shapes if s.xref == panel] == [0, 50]
    texts = {note.text: note.x for note in layout.annotations}
    assert (texts["N=10"], texts["N=20"]) == (0, 50)


def test_long_curves_are_thinned_to_their_means() -> None:
    table = pd.DataFrame({"step": range(9000), "loss": [1.0, 3.0, 5.0] * 3000})
    thin = thinned(table)
    assert len(thin) <= MAX_POINTS
    assert thin["loss"].tolist() == [3.0] * len(thin)
    assert len(thinned(metrics())) == len(metrics())


OF_STEPS = pd.DataFrame(
    {
        "nfe": [1, 2, 2, 2, 2],
        "intermediate_sigma": [None, 0.1, 0.5, 0.1, 0.5],
        "renoise": [None, "fresh", "fresh", "same", "same"],
        "distance": [5.0, 4.0, 3.0, 6.0, 2.0],
    }
).assign(metric="classifier_frechet_distance", model="combined")
SWEEP = pd.concat([OF_STEPS.assign(model="last", distance=9.0), OF_STEPS])


def test_a_second_step_is_a_curve_over_its_level_for_each_kind_of_noise() -> None:
    figure = draw_two_step_sweep(SWEEP)
    assert {line.name: tuple(line.y) for line in figure.data} == {
        "fresh noise": (4.0, 3.0),
        "same noise": (6.0, 2.0),
        "one step: 5.00": (5.0, 5.0),
    }
    assert all(tuple(line.x) == (0.1, 0.5) for line in figure.data)
    assert figure.layout.xaxis.type == "log"
    assert figure.layout.yaxis.title.text == "Frechet distance (classifier)"


def test_without_levels_the_curve_goes_over_the_evaluations() -> None:
    nfe = [3, 5, 9, 17, 33]
    table = SWEEP.assign(intermediate_sigma=None, renoise=None, nfe=nfe * 2)
    figure = draw_two_step_sweep(table)
    (line,) = figure.data
    assert list(line.x) == nfe
    assert list(line.y) == [5.0, 4.0, 3.0, 6.0, 2.0]
    assert figure.layout.xaxis.title.text == "number of evaluations"


def sizes(model: str, reference: str, infinity: float, slope: float) -> pd.DataFrame:
    counts = np.array([100, 200, 400])
    about = {"model": model, "nfe": 1, "metric": "fid", "reference": reference}
    made = {"extractor_digest": "1", "file_format": "lossless"}
    table = pd.DataFrame({"num_images": counts, "mean": infinity + slope / counts})
    line = {"infinity": infinity, "slope": slope, "std": [0.1, 0.1, np.nan]}
    return table.assign(**about, **made, **line)


def traces(figure: go.Figure, mode: str) -> list[Any]:
    return [trace for trace in figure.data if trace.mode == mode]


def test_points_stand_over_one_by_n_and_lines_meet_zero_at_the_extrapolation() -> None:
    last = sizes("last", "the test split", 5.0, 300.0)
    ours = sizes("combined", "the test split", 2.0, 100.0)
    figure = draw_size_bias(pd.concat([last, ours]))
    points, lines = traces(figure, "markers"), traces(figure, "lines")
    names = [trace.name for trace in points]
    assert names == ["Last checkpoint, 1 step", "Combination, 1 step"]
    np.testing.assert_allclose(points[0].x, [0.01, 0.005, 0.0025])
    np.testing.assert_allclose(points[0].y, [8.0, 6.5, 5.75])
    np.testing.assert_allclose(lines[0].x, [0, 0.01])
    np.testing.assert_allclose(lines[0].y, [5.0, 8.0])
    np.testing.assert_allclose(lines[1].y, [2.0, 3.0])
    assert len({trace.marker.color for trace in points}) == 2


def test_what_is_compared_with_something_else_has_a_panel_of_its_own() -> None:
    ours = sizes("last", "the test split", 5.0, 300.0)
    figure = draw_size_bias(pd.concat([ours, sizes("last", "theirs", 9.0, 300.0)]))
    titles = [annotation.text for annotation in figure.layout.annotations]
    assert titles == ["FID, against the test split", "FID, against theirs"]
    assert [trace.yaxis for trace in traces(figure, "markers")] == ["y", "y2"]
    assert [t.showlegend for t in traces(figure, "markers")] == [True, False]


@pytest.mark.parametrize("table", [pd.DataFrame(), sizes("last", "x", np.nan, np.nan)])
def test_a_chart_is_drawn_where_there_is_no_line(table: pd.DataFrame) -> None:
    assert draw_size_bias(table).to_json()
