"""Box plots with fences."""

import pandas as pd
import plotly.graph_objects as go
import pytest

from lct_pipeline.core.losses import PAPER_LAW
from lct_pipeline.reporting.box_plots import (
    draw_box_plot,
    draw_td_box_plot,
    draw_td_std,
    tails,
)

ROW = {
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


def scaled(scale: float) -> dict[str, float]:
    return {name: scale * value for name, value in ROW.items()}


STATISTICS = pd.DataFrame([{"channel": "0", **scaled(2)}, {"channel": "all", **ROW}])
# two stages with two levels each, all numbers of a level times its scale
TD_STATISTICS = pd.DataFrame(
    {**scaled(scale), "num_levels": N, "step": 5 * N, "t": t, "weight": weight}
    for N, t, weight, scale in (
        (10, 0.0123456, 0.25, 4.0),
        (10, 80.0, 0.75, 2.0),
        (20, 0.01, 0.5, 1.0),
        (20, 80.0, 0.5, 3.0),
    )
).assign(space="latents")
TD_SUMMARY = pd.DataFrame(
    {
        "num_levels": [10, 20, 40],
        "std": [0.1, 0.06, 0.03],
        "c_fitted": [0.11, 0.05, 0.03],
    }
).assign(slope=-0.875, intercept=0.25, space="latents")


def marks(figure: go.Figure, group: str) -> list[list[float]]:
    return [list(t.y) for t in figure.data if t.name.startswith(group)]


def test_boxes_have_quartiles_and_whiskers_to_the_inner_fence_or_the_extreme() -> None:
    box = draw_box_plot(STATISTICS, "Latents").data[0]
    assert (box.type, list(box.x)) == ("box", ["0", "all"])
    expected = {
        "q1": [-2.0, -1.0],
        "median": [0.0, 0.0],
        "q3": [2.0, 1.0],
        "mean": [0.2, 0.1],
        "lowerfence": [-8.0, -4.0],
        "upperfence": [6.0, 3.0],
    }
    assert {name: list(box[name]) for name in expected} == expected


def test_fences_and_extremes_are_marked() -> None:
    figure = draw_box_plot(STATISTICS, "Latents")
    assert marks(figure, "inner") == [[-8.0, -4.0, 8.0, 4.0]]
    assert marks(figure, "outer") == [[-14.0, -7.0, 14.0, 7.0]]
    assert marks(figure, "extremes") == [[-18.0, -9.0, 6.0, 3.0]]


def test_the_title_tells_the_shares_of_all_channels() -> None:
    assert draw_box_plot(STATISTICS, "Latents").layout.title.text == (
        "Latents<br><sub>1.25% beyond the inner fences (Gaussian 0.70%), "
        "0.0560% beyond the outer (Gaussian 0.0002%), excess kurtosis 2.50</sub>"
    )


def test_each_stage_has_boxes_fences_and_extremes_the_last_stage_first() -> None:
    figure = draw_td_box_plot(TD_STATISTICS)
    boxes = [t for t in figure.data if t.type == "box"]
    assert [box.xaxis for box in boxes] == ["x", "x2"]
    assert [list(box.x) for box in boxes] == [["0.01", "80"], ["0.01235", "80"]]
    assert [list(box.q3) for box in boxes] == [[1.0, 3.0], [4.0, 2.0]]
    assert [list(box.lowerfence) for box in boxes] == [[-4.0, -12.0], [-16.0, -8.0]]
    assert marks(figure, "inner")[0] == [-4.0, -12.0, 4.0, 12.0]
    assert marks(figure, "outer")[1] == [-28.0, -14.0, 28.0, 14.0]
    assert marks(figure, "extremes")[0] == [-9.0, -27.0, 3.0, 9.0]
    assert [trace.showlegend for trace in figure.data] == [True] * 4 + [False] * 4


def test_a_stages_title_has_the_shares_over_all_its_levels() -> None:
    last, first = draw_td_box_plot(TD_STATISTICS).layout.annotations
    assert last.text.startswith("N = 20, step 100: 2.50% beyond the inner fences")
    # 2.5 times 1.25 %
    assert first.text.startswith("N = 10, step 50: 3.12% beyond the inner fences")


@pytest.mark.parametrize(
    ("c", "first"), [(0.03, "0.00054 √D, then "), (PAPER_LAW(10), "")], ids=str
)
def test_the_standard_deviation_is_drawn_with_both_laws(c: float, first: str) -> None:
    """The paper's begins with iCT's constant, unless an earlier run was the first stage."""
    figure = draw_td_std(TD_SUMMARY.assign(c_paper=[c, 0.014, 0.006]))
    drawn = {trace.name: list(trace.y) for trace in figure.data}
    assert drawn == {
        "fitted: exp(-0.88 ln N +0.25)": [0.11, 0.05, 0.03],
        f"paper: {first}exp(-1.15 ln N -0.85)": [c, 0.014, 0.006],
        "measured": [0.1, 0.06, 0.03],
    }
    assert all(list(trace.x) == [10, 20, 40] for trace in figure.data)
    assert figure.layout.xaxis.type == figure.layout.yaxis.type == "log"


def test_without_temporal_differences_the_charts_say_why() -> None:
    for figure in (draw_td_box_plot(TD_STATISTICS[:0]), draw_td_std(TD_SUMMARY[:0])):
        assert not figure.data
        assert "diffusion model" in figure.layout.annotations[0].text


def test_tails_are_those_of_all_values() -> None:
    names = ("share_beyond_inner", "share_beyond_outer", "excess_kurtosis")
    assert tails(STATISTICS) == {name: ROW[name] for name in names}
