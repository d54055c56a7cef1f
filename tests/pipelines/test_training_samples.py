"""Samples while training goes on: when they are drawn, of which weights, and what may fail."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from conftest import SmokeResults
from lct_pipeline.core.ema import Track
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import DataError
from lct_pipeline.pipelines.training import samples
from lct_pipeline.pipelines.training.samples import (
    Pictures,
    average_of,
    stage_samples,
)


def pictures(results: SmokeResults, draw: Any) -> Pictures:
    parameters = results.training({"num_steps": 800})
    return Pictures(SimpleNamespace(parameters=parameters), draw)  # type: ignore[arg-type]


def state(step: int) -> TensorFile:
    weights = {"network.w": torch.zeros(1), "average/power-0.1/w": torch.ones(1)}
    return TensorFile(weights, {"step": step})


def test_a_picture_is_drawn_each_eighth_but_takes_a_hundredth_of_the_time(
    results: SmokeResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    clock = SimpleNamespace(perf_counter=lambda: now[0])
    monkeypatch.setattr(samples, "time", clock)
    drawn: list[Any] = []

    def draw(weights: Any) -> str:
        now[0] += 2.0
        drawn.append(weights)
        return "figure"

    made = pictures(results, draw)
    times = {50: 8, 100: 10, 200: 150, 250: 209, 300: 213, 400: 400}
    found = []
    for step, seconds in times.items():
        now[0] = float(seconds)
        if made.drawn_if_due(state(step)):
            found.append(step)
    # 50: no eighth yet; 200, 250: within 200 s of the end of the first, at 12 s
    assert found == [100, 300]
    assert drawn[0] == {"step 100, average power-0.1": {"w": torch.ones(1)}}


def test_training_goes_on_where_nothing_can_be_drawn(
    results: SmokeResults,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def draw(_: Any) -> None:
        raise DataError("the autoencoder is missing")

    now = iter([0.0, 100.0, 100.0])
    clock = SimpleNamespace(perf_counter=lambda: next(now))
    monkeypatch.setattr(samples, "time", clock)
    assert pictures(results, draw).drawn_if_due(state(100)) is None
    assert "no picture of samples yet: the autoencoder is missing" in caplog.text


def test_the_picture_has_the_ends_of_stages_and_the_average_so_far(
    results: SmokeResults,
) -> None:
    load = results.catalog.load
    checkpoints, last = load("checkpoints"), load("previous_training_state")
    average = average_of(last.tensors, Track("power", 0.1))
    kept = checkpoints.read("step-0000060-power-0.1").tensors
    assert average.keys() == kept.keys()
    assert all(torch.equal(average[name], kept[name]) for name in kept)
    task = SimpleNamespace(
        description=checkpoints.network(checkpoints.names()[0]),
        runtime=results.parameters.runtime,
    )
    sampling = results.parameters.sampling
    rest: Any = (task, checkpoints, load("decoder"), sampling)
    figure = stage_samples(*rest, {"so far": average})
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[:4] == [
        "N = 4, step 20",
        "N = 8, step 40",
        "N = 16, step 60",
        "so far",
    ]
