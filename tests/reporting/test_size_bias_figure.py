from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from lct_pipeline.reporting.size_bias import draw_size_bias


def rows(model: str, reference: str, infinity: float, slope: float) -> list[dict]:
    about = {"model": model, "nfe": 1, "metric": "fid", "reference": reference}
    made = {"extractor_digest": "1", "file_format": "lossless"}
    return [
        {
            **about,
            **made,
            "num_images": n,
            "mean": infinity + slope / n,
            "std": 0.1 if n < 400 else np.nan,
            "infinity": infinity,
            "slope": slope,
        }
        for n in (100, 200, 400)
    ]


def traces(figure: Any, mode: str) -> list[Any]:
    return [trace for trace in figure.data if trace.mode == mode]


def test_points_stand_over_one_by_n_and_lines_meet_zero_at_the_extrapolation() -> None:
    table = pd.DataFrame(
        rows("last", "the test split", 5.0, 300.0)
        + rows("combined", "the test split", 2.0, 100.0)
    )
    figure = draw_size_bias(table)
    points, lines = traces(figure, "markers"), traces(figure, "lines")
    assert [trace.name for trace in points] == ["last, NFE 1", "combined, NFE 1"]
    np.testing.assert_allclose(points[0].x, [0.01, 0.005, 0.0025])
    np.testing.assert_allclose(points[0].y, [8.0, 6.5, 5.75])
    np.testing.assert_allclose(lines[0].x, [0, 0.01])
    np.testing.assert_allclose(lines[0].y, [5.0, 8.0])
    np.testing.assert_allclose(lines[1].y, [2.0, 3.0])
    assert len({trace.marker.color for trace in points}) == 2


def test_what_is_compared_with_something_else_has_a_panel_of_its_own() -> None:
    table = pd.DataFrame(
        rows("last", "the test split", 5.0, 300.0) + rows("last", "theirs", 9.0, 300.0)
    )
    figure = draw_size_bias(table)
    titles = [annotation.text for annotation in figure.layout.annotations]
    assert titles == ["FID, against the test split", "FID, against theirs"]
    assert [trace.yaxis for trace in traces(figure, "markers")] == ["y", "y2"]


@pytest.mark.parametrize(
    "table", [pd.DataFrame(), pd.DataFrame(rows("last", "x", np.nan, np.nan))]
)
def test_a_figure_is_drawn_where_there_is_no_line(table: pd.DataFrame) -> None:
    assert draw_size_bias(table).to_json()
