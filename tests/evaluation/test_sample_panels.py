"""Samples of the models side by side."""

from __future__ import annotations

from dataclasses import replace

import pytest

from conftest import SmokeResults
from lct_pipeline.evaluation.sample_panels import draw_sample_grid, sample_panels


@pytest.mark.parametrize("combined", [True, False])
def test_the_grid_shows_each_model_and_the_second_step_of_the_final_one(
    results: SmokeResults, combined: bool
) -> None:
    load, parameters = results.catalog.load, results.parameters
    compared = load("models")
    plans = {n: p for n, p in compared.plans.items() if combined or n != "combined"}
    panels = sample_panels(
        replace(compared, plans=plans),
        load("decoder"),
        load("images"),
        load("image_manifest"),
        parameters.sampling,
        parameters.runtime,
    )
    figure = draw_sample_grid(panels)
    models = ["Last checkpoint", "Best EMA", "Combination"][: 2 + combined]
    assert [axis.get_title() for axis in figure.axes if axis.images] == [
        *(f"{model}, NFE 1" for model in models),
        f"{models[-1]}, NFE 2",
        "No model",
        "Real images",
    ]
