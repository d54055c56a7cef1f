from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import torch
from measuring import ONE_STEP, distance, generation_inputs

from conftest import SmokeResults
from lct_pipeline.combination.averages import posthoc_alpha
from lct_pipeline.combination.selection import (
    Measure,
    choose_average,
    choose_second_step,
)
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import DataError
from lct_pipeline.evaluation.generator import SamplingPlan
from lct_pipeline.evaluation.models import plans_from, plans_of

AVERAGES = [
    "step-0000060-ema-0.9",
    "step-0000060-ema-0.95",
    "step-0000060-power-0.1",
    "post-hoc-0.1",
    "post-hoc-0.2",
]

FakeDistances = Callable[[list[float]], None]


@pytest.fixture
def fake_distances(monkeypatch: pytest.MonkeyPatch) -> FakeDistances:
    """Return a function that sets what the next measurements find."""

    def set_distances(distances: list[float]) -> None:
        found = iter(distances)
        monkeypatch.setattr(Measure, "__call__", lambda *_: next(found))

    return set_distances


def average(results: SmokeResults) -> tuple[pd.DataFrame, TensorFile]:
    load = results.catalog.load
    return choose_average(load("checkpoint_index"), *generation_inputs(results))


def second_step(
    results: SmokeResults, *, combined: bool = False, **changes: Any
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Choose for all models, their network described with changes."""
    load = results.catalog.load
    best = load("best_average")
    network = best.metadata["network"] | changes
    model = replace(best, metadata={**best.metadata, "network": network})
    found = load("combined_model") if combined else None
    catalog = load("checkpoint_index")
    return choose_second_step(model, found, catalog, *generation_inputs(results))


def test_every_average_competes_with_those_made_afterwards(
    results: SmokeResults,
) -> None:
    table = results.catalog.load("average_choice")
    assert table["name"].tolist() == AVERAGES
    assert table["kind"].tolist() == ["ema", "ema", "power", "posthoc", "posthoc"]
    assert set(table["split"]) == {"validation"}
    assert set(table["num_generated"]) == {32}


def test_the_best_average_is_that_of_the_least_distance(results: SmokeResults) -> None:
    table = results.catalog.load("average_choice").set_index("name")
    best = results.catalog.load("best_average")
    least = table["distance"].min()
    assert table["distance"][best.metadata["name"]] == least
    assert table["kind"][best.metadata["name"]] == best.metadata["kind"]
    found = distance(results, best, ONE_STEP, "choice")
    assert found == pytest.approx(least, rel=1e-4)


def made_afterwards(results: SmokeResults, width: float) -> dict[str, torch.Tensor]:
    """Return the power-function average of a width, added up from the snapshots in float64."""
    catalog = results.catalog.load("checkpoint_index")
    snapshots = catalog.rows[catalog.rows["kind"] == "power"]
    weights = [catalog.store.read(name).tensors for name in snapshots["name"]]
    alpha = posthoc_alpha(snapshots, width)
    return {
        key: sum(
            a * w[key].double() for a, w in zip(alpha, weights, strict=True)
        ).float()
        for key in weights[0]
    }


@pytest.mark.parametrize("place", range(5))
def test_whichever_average_is_best_its_weights_are_returned(
    results: SmokeResults, fake_distances: FakeDistances, place: int
) -> None:
    fake_distances([2.0 - (number == place) for number in range(5)])
    _, best = average(results)
    load, name = results.catalog.load, AVERAGES[place]
    store = load("checkpoints")
    expected = (
        made_afterwards(results, float(name.removeprefix("post-hoc-")))
        if name.startswith("post-hoc")
        else store.read(name).tensors
    )
    assert best.metadata["name"] == name
    assert best.metadata["network"] == store.header(AVERAGES[0])["network"]
    assert best.tensors.keys() == expected.keys()
    for key, tensor in expected.items():
        if name.startswith("post-hoc"):
            torch.testing.assert_close(best.tensors[key], tensor, rtol=1e-5, atol=1e-6)
        else:
            assert torch.equal(best.tensors[key], tensor)


def test_averages_that_were_replaced_are_refused(results: SmokeResults) -> None:
    catalog = results.catalog.load("checkpoint_index")
    other = replace(catalog, rows=catalog.rows.assign(digest="another"))
    with pytest.raises(DataError, match="not the checkpoint that was cataloged"):
        choose_average(other, *generation_inputs(results))


def test_a_second_step_is_tried_at_each_level_with_each_kind_of_noise(
    results: SmokeResults,
) -> None:
    whole = results.catalog.load("second_step_choice")
    assert whole["model"].unique().tolist() == ["last", "best_ema", "combined"]
    assert len(whole) == 15
    table = whole[whole["model"] == "best_ema"]
    assert table["nfe"].tolist() == [1, 2, 2, 2, 2]
    tried = list(zip(table["second_sigma"], table["renoise"], strict=True))[1:]
    assert tried == [(0.1, "fresh"), (0.5, "fresh"), (0.1, "same"), (0.5, "same")]
    assert set(table["split"]) == {"validation"}


@pytest.mark.parametrize("model", ["last", "best_ema", "combined"])
def test_the_second_step_of_the_least_distance_is_chosen(
    results: SmokeResults, model: str
) -> None:
    table = results.catalog.load("second_step_choice")
    table = table[table["model"] == model]
    models = results.catalog.load("models")
    first, second = plans_of(models, model)
    best = table.iloc[1:].sort_values("distance").iloc[0]
    assert first == ONE_STEP
    assert second == SamplingPlan(2, (80.0, best["second_sigma"]), best["renoise"])
    improves = best["distance"] < table["distance"].iloc[0]
    assert models.improves[model] == improves


@pytest.mark.parametrize("combined", [True, False])
def test_each_model_is_tried_with_its_own_weights(
    results: SmokeResults, combined: bool
) -> None:
    load = results.catalog.load
    models = {
        "last": load("checkpoints").read("step-0000060-raw"),
        "best_ema": load("best_average"),
        **({"combined": load("combined_model")} if combined else {}),
    }
    table, chosen = second_step(results, combined=combined)
    assert list(chosen["plans"]) == list(models)
    one_step = table[table["nfe"] == 1].set_index("model")["distance"]
    expected = {
        name: distance(results, model, ONE_STEP, "second step")
        for name, model in models.items()
    }
    assert one_step.to_dict() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("one_step", "improves"), [(3.0, True), (2.0, False)])
def test_a_second_step_that_brings_nothing_is_said_to(
    results: SmokeResults,
    fake_distances: FakeDistances,
    one_step: float,
    improves: bool,
) -> None:
    of_best = [one_step, 7.0, 4.0, 2.0, 5.0]
    fake_distances([1.0, 9.0, 8.0, 7.0, 6.0, *of_best])
    table, chosen = second_step(results)
    assert table["distance"].tolist()[5:] == of_best
    second = SamplingPlan(2, (80.0, 0.1), "same")
    assert plans_from(chosen["plans"]["best_ema"]) == [ONE_STEP, second]
    second = SamplingPlan(2, (80.0, 0.5), "same")
    assert plans_from(chosen["plans"]["last"]) == [ONE_STEP, second]
    assert chosen["second_step_improves"] == {"last": False, "best_ema": improves}


def test_a_truncated_model_takes_no_second_step_below_its_truncation(
    results: SmokeResults,
) -> None:
    table, chosen = second_step(results, lowest_level=0.3)
    assert set(table["second_sigma"].dropna()) == {0.5}
    assert plans_from(chosen["plans"]["best_ema"])[1].sigmas == (80.0, 0.5)


@pytest.mark.parametrize("change", [{"lowest_level": 1.0}, {"sigma_max": 0.1}], ids=str)
def test_without_a_level_for_a_second_step_there_is_one_step(
    results: SmokeResults, change: dict[str, float]
) -> None:
    table, chosen = second_step(results, **change)
    assert len(table) == 2
    (plan,) = plans_from(chosen["plans"]["best_ema"])
    assert plan.num_evaluations == 1
    assert chosen["second_step_improves"] == {"last": None, "best_ema": None}


def test_a_diffusion_model_has_a_plan_for_each_number_of_evaluations(
    results: SmokeResults,
) -> None:
    table, chosen = second_step(results, model="diffusion", boundary=0.0)
    assert table["nfe"].tolist() == [5, 9, 17]
    assert table["second_sigma"].isna().all()
    assert set(table["model"]) == {"best_ema"}
    for model in ("last", "best_ema"):
        assert plans_from(json.loads(json.dumps(chosen))["plans"][model]) == [
            SamplingPlan(n, solver="dpm_solver") for n in (5, 9, 17)
        ]
    assert "second_step_improves" not in chosen
