"""Box plots with fences."""

import pandas as pd
import plotly.graph_objects as go
import pytest

from lct_pipeline.reporting.box_plots import draw_box_plot


@pytest.fixture
def statistics() -> pd.DataFrame:
    row = {
        "mean": 0.1,
        "q1": -1.0,
        "median": 0.0,
        "q3": 1.0,
        "inner_low": -4.0,
        "inner_high": 4.0,
        "outer_low": -7.0,
        "outer_high": 7.0,
        "minimum": -9.0,
        "maximum": 3.0,
        "share_beyond_inner": 0.0125,
        "share_beyond_outer": 0.00056,
        "gaussian_share_beyond_inner": 0.00698,
        "gaussian_share_beyond_outer": 0.0000023,
        "excess_kurtosis": 2.5,
    }
    doubled = {name: 2 * value for name, value in row.items()}
    return pd.DataFrame([{"channel": "0", **doubled}, {"channel": "all", **row}])


def marks(figure: go.Figure, group: str) -> list[list[float]]:
    traces = [trace for trace in figure.data if trace.legendgroup == group]
    return [list(trace.y) for trace in traces]


def test_boxes_have_the_quartiles_given(statistics: pd.DataFrame) -> None:
    box = draw_box_plot(statistics, "Latents").data[0]
    assert box.type == "box"
    assert list(box.x) == ["channel 0", "all"]
    assert list(box.q1) == [-2.0, -1.0]
    assert list(box.median) == [0.0, 0.0]
    assert list(box.q3) == [2.0, 1.0]
    assert list(box.mean) == [0.2, 0.1]


def test_whiskers_end_at_the_inner_fence_or_the_extreme(
    statistics: pd.DataFrame,
) -> None:
    box = draw_box_plot(statistics, "Latents").data[0]
    assert list(box.lowerfence) == [-8.0, -4.0]
    assert list(box.upperfence) == [6.0, 3.0]


def test_fences_and_extremes_are_marked(statistics: pd.DataFrame) -> None:
    figure = draw_box_plot(statistics, "Latents")
    assert marks(figure, "inner") == [[-8.0, -4.0], [8.0, 4.0]]
    assert marks(figure, "outer") == [[-14.0, -7.0], [14.0, 7.0]]
    assert marks(figure, "extremes") == [[-18.0, -9.0], [6.0, 3.0]]


def test_each_kind_of_mark_is_in_the_legend_once(statistics: pd.DataFrame) -> None:
    data = draw_box_plot(statistics, "Latents").data[1:]
    shown = [trace.legendgroup for trace in data if trace.showlegend]
    assert shown == ["inner", "outer", "extremes"]


def test_the_title_tells_the_shares_of_all_channels(statistics: pd.DataFrame) -> None:
    title = draw_box_plot(statistics, "Latents").layout.title.text
    assert title == (
        "Latents<br><sub>1.25% beyond the inner fences (Gaussian 0.70%), "
        "0.0560% beyond the outer (Gaussian 0.0002%), excess kurtosis 2.50</sub>"
    )
