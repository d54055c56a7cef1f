"""Axes: places of values, and ticks."""

import plotly.graph_objects as go
import pytest

from lct_pipeline.reporting.axes import Axis


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("values", [(0.002, 80.0), (1.0, 1.3), (17.0, 6e4), (2.0,)])
def test_ticks_lie_within_an_axis(log: bool, values: tuple[float, ...]) -> None:
    axis = Axis(go.layout.XAxis(type="log" if log else "linear"), values)
    places = [axis(value) for value in values]
    assert all(0 < place < 1 for place in places) and places == sorted(places)
    ticks = axis.ticks()
    assert 1 <= len(ticks) <= 7
    assert all(-1e-6 <= axis(value) <= 1 + 1e-6 for value, _ in ticks)
    assert len({label for _, label in ticks}) == len(ticks)


def test_ticks_that_are_near_each_other_are_told_apart() -> None:
    axis = Axis(go.layout.YAxis(range=[1.708, 1.722]), [1.71])
    assert [label for _, label in axis.ticks()] == ["1.710", "1.715", "1.720"]
