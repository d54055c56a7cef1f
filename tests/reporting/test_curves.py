"""Curves of training, and of a second step."""

import pandas as pd
import plotly.graph_objects as go
import pytest

from lct_pipeline.reporting.curves import (
    draw_training_curves,
    draw_two_step_sweep,
)


def trace(figure: go.Figure, name: str) -> go.Scatter:
    (found,) = [trace for trace in figure.data if trace.name == name]
    return found


def test_training_curves_show_each_column_over_the_steps() -> None:
    columns = {
        "loss": [3.0, 2.0],
        "consistency_loss": [1.0, 0.5],
        "diffusion_loss": [2.0, 1.5],
        "num_levels": [10, 20],
        "c": [0.1, 0.2],
        "spread": [0.3, 0.1],
        "images_per_second": [100.0, 90.0],
    }
    figure = draw_training_curves(pd.DataFrame({"step": [25, 50], **columns}))
    assert len(figure.data) == len(columns)
    for name, values in columns.items():
        found = trace(figure, name.replace("_", " "))
        assert list(found.x) == [25, 50]
        assert list(found.y) == values


def test_training_curves_share_a_panel_among_losses_and_of_c_with_its_measure() -> None:
    names = ["loss", "consistency_loss", "diffusion_loss", "num_levels", "c", "spread"]
    table = pd.DataFrame(
        {"step": [1], "images_per_second": [1.0]} | dict.fromkeys(names, 1.0)
    )
    panels: dict[str, list[str]] = {}
    for found in draw_training_curves(table).data:
        panels.setdefault(found.yaxis, []).append(found.name)
    assert sorted(panels.values()) == [
        ["c", "spread"],
        ["images per second"],
        ["loss", "consistency loss", "diffusion loss"],
        ["num levels"],
    ]


@pytest.fixture
def second_steps() -> pd.DataFrame:
    rows = [
        (1, None, None, 5.0),
        (2, 0.1, "fresh", 4.0),
        (2, 0.5, "fresh", 3.0),
        (2, 0.1, "same", 6.0),
        (2, 0.5, "same", 2.0),
    ]
    table = pd.DataFrame(
        rows, columns=["nfe", "intermediate_sigma", "renoise", "distance"]
    )
    table = table.assign(metric="classifier_frechet_distance", model="combined")
    other = table.assign(model="last", distance=9.0)
    return pd.concat([other, table], ignore_index=True)


def test_a_second_step_is_a_curve_over_its_level_for_each_kind_of_noise(
    second_steps: pd.DataFrame,
) -> None:
    figure = draw_two_step_sweep(second_steps)
    expected = {"fresh noise": (4.0, 3.0), "same noise": (6.0, 2.0)}
    assert {line.name: tuple(line.y) for line in figure.data} == expected
    assert all(tuple(line.x) == (0.1, 0.5) for line in figure.data)
    assert figure.layout.xaxis.type == "log"
    assert figure.layout.xaxis.title.text == "noise level of the second step"
    assert figure.layout.yaxis.title.text == "classifier frechet distance"


def test_one_step_is_a_line_across_the_levels(second_steps: pd.DataFrame) -> None:
    layout = draw_two_step_sweep(second_steps).layout
    (line,) = layout.shapes
    (text,) = layout.annotations
    assert line.y0 == line.y1 == 5
    assert text.text == "one step: 5"


def test_without_levels_the_curve_goes_over_the_evaluations(
    second_steps: pd.DataFrame,
) -> None:
    table = second_steps.assign(
        intermediate_sigma=None, renoise=None, nfe=[3, 5, 9, 17, 33] * 2
    )
    figure = draw_two_step_sweep(table)
    (line,) = figure.data
    assert list(line.x) == [3, 5, 9, 17, 33]
    assert list(line.y) == [5.0, 4.0, 3.0, 6.0, 2.0]
    assert figure.layout.xaxis.title.text == "number of evaluations"
    assert not figure.layout.shapes
