"""Sampling plans: which there are, and which is selected."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from describing import described, sampling
from measuring import ONE_STEP, distance, generation_inputs

from conftest import SmokeResults
from lct_pipeline.datasets.model_set import plans_from
from lct_pipeline.errors import ParameterError
from lct_pipeline.evaluation.feature_spaces import RealImages
from lct_pipeline.evaluation.generator import SamplingPlan
from lct_pipeline.evaluation.plans import (
    deployed_plan,
    diffusion_plans,
    first_plan,
    one_step,
    select_sampling_plan,
    two_step_plans,
)
from lct_pipeline.models.denoiser import ModelDescription
from lct_pipeline.parameters.evaluation import DiffusionSampling

NETWORK = described(boundary=0.3, sigma_min=0.3)
DIFFUSION = replace(NETWORK, model="diffusion", boundary=0.0, sigma_min=0.002)
FakeDistances = Callable[[list[float]], None]


@pytest.fixture
def fake_distances(monkeypatch: pytest.MonkeyPatch) -> FakeDistances:
    """Return a function that sets what the next measurements find."""

    def set_distances(distances: list[float]) -> None:
        found = iter(distances)
        monkeypatch.setattr(RealImages, "frechet_distance", lambda *_: next(found))

    return set_distances


def second_step(
    results: SmokeResults, *, combined: bool = False, **changes: Any
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Select for all models, their network described with changes."""
    load = results.catalog.load
    best = load("best_ema")
    network = best.metadata["network"] | changes
    model = replace(best, metadata={**best.metadata, "network": network})
    found = load("combined_model") if combined else None
    catalog = load("checkpoint_index")
    return select_sampling_plan(model, found, catalog, *generation_inputs(results))


def test_a_second_step_is_tried_at_each_level_with_each_kind_of_noise(
    results: SmokeResults,
) -> None:
    whole = results.catalog.load("two_step_selection")
    assert whole["model"].unique().tolist() == ["last", "best_ema", "combined"]
    assert len(whole) == 15
    table = whole[whole["model"] == "best_ema"]
    assert table["nfe"].tolist() == [1, 2, 2, 2, 2]
    tried = list(zip(table["intermediate_sigma"], table["renoise"], strict=True))[1:]
    assert tried == [(0.1, "fresh"), (0.5, "fresh"), (0.1, "same"), (0.5, "same")]
    assert set(table["split"]) == {"validation"}


@pytest.mark.parametrize("model", ["last", "best_ema", "combined"])
def test_the_second_step_of_the_least_distance_is_selected(
    results: SmokeResults, model: str
) -> None:
    table = results.catalog.load("two_step_selection")
    table = table[table["model"] == model]
    models = results.catalog.load("models")
    first, second = models.plans[model]
    best = table.iloc[1:].sort_values("distance").iloc[0]
    assert first == ONE_STEP
    assert second == SamplingPlan(
        2, (80.0, best["intermediate_sigma"]), best["renoise"]
    )
    improves = best["distance"] < table["distance"].iloc[0]
    assert models.improves[model] == improves


def test_each_model_is_tried_with_its_own_weights(results: SmokeResults) -> None:
    load = results.catalog.load
    models = {
        "last": load("checkpoints").read("step-0000060-raw"),
        "best_ema": load("best_ema"),
        "combined": load("combined_model"),
    }
    table, selected = second_step(results, combined=True)
    assert list(selected["plans"]) == list(models)
    one_step = table[table["nfe"] == 1].set_index("model")["distance"]
    expected = {
        name: distance(results, model, ONE_STEP, "second step")
        for name, model in models.items()
    }
    assert one_step.to_dict() == pytest.approx(expected, rel=1e-4)


def test_a_model_that_equals_another_is_not_measured_again(
    results: SmokeResults, fake_distances: FakeDistances
) -> None:
    fake_distances([float(n) for n in range(10)])  # of the last and the best EMA
    load = results.catalog.load
    best = load("best_ema")
    inputs = generation_inputs(results)
    table, selected = select_sampling_plan(
        best, best, load("checkpoint_index"), *inputs
    )
    distances = table.groupby("model", sort=False)["distance"].apply(list)
    assert distances["combined"] == distances["best_ema"] != distances["last"]
    assert selected["plans"]["combined"] == selected["plans"]["best_ema"]


@pytest.mark.parametrize(("one_step", "improves"), [(3.0, True), (2.0, False)])
def test_a_second_step_that_brings_nothing_is_said_to(
    results: SmokeResults,
    fake_distances: FakeDistances,
    one_step: float,
    improves: bool,
) -> None:
    of_best = [one_step, 7.0, 4.0, 2.0, 5.0]
    fake_distances([1.0, 9.0, 8.0, 7.0, 6.0, *of_best])
    table, selected = second_step(results)
    assert table["distance"].tolist()[5:] == of_best
    second = SamplingPlan(2, (80.0, 0.1), "same")
    assert plans_from(selected["plans"]["best_ema"]) == [ONE_STEP, second]
    second = SamplingPlan(2, (80.0, 0.5), "same")
    assert plans_from(selected["plans"]["last"]) == [ONE_STEP, second]
    assert selected["two_step_improves"] == {"last": False, "best_ema": improves}


def test_a_truncated_model_takes_no_second_step_below_its_truncation(
    results: SmokeResults,
) -> None:
    table, selected = second_step(results, lowest_level=0.3)
    assert set(table["intermediate_sigma"].dropna()) == {0.5}
    assert plans_from(selected["plans"]["best_ema"])[1].sigmas == (80.0, 0.5)


@pytest.mark.parametrize("change", [{"lowest_level": 1.0}, {"sigma_max": 0.1}], ids=str)
def test_without_a_level_for_a_second_step_there_is_one_step(
    results: SmokeResults, change: dict[str, float]
) -> None:
    table, selected = second_step(results, **change)
    assert len(table) == 2
    (plan,) = plans_from(selected["plans"]["best_ema"])
    assert plan.num_evaluations == 1
    assert selected["two_step_improves"] == {"last": None, "best_ema": None}


def test_a_diffusion_model_has_a_plan_for_each_number_of_evaluations(
    results: SmokeResults,
) -> None:
    table, selected = second_step(results, model="diffusion", boundary=0.0)
    assert table["nfe"].tolist() == [5, 9, 17]
    assert table["intermediate_sigma"].isna().all()
    assert set(table["model"]) == {"best_ema"}
    for model in ("last", "best_ema"):
        assert plans_from(json.loads(json.dumps(selected))["plans"][model]) == [
            SamplingPlan(n, solver="dpm_solver") for n in (5, 9, 17)
        ]
    assert "two_step_improves" not in selected


def test_two_step_plans_are_each_level_with_each_kind_of_noise() -> None:
    assert two_step_plans(NETWORK, sampling()) == [
        SamplingPlan(2, (80.0, 0.5), "fresh"),
        SamplingPlan(2, (80.0, 2.0), "fresh"),
        SamplingPlan(2, (80.0, 0.5), "same"),
        SamplingPlan(2, (80.0, 2.0), "same"),
    ]


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({}, [0.3, 1.0, 79.0]),
        ({"lowest_level": 1.0}, [1.0, 79.0]),  # truncated at 1
        ({"sigma_max": 1.0}, [0.3]),
        ({"lowest_level": 79.5}, []),
    ],
)
def test_levels_that_the_model_was_not_trained_on_are_left_out(
    change: dict[str, float], kept: list[float]
) -> None:
    given = sampling(
        intermediate_sigmas=(0.2, 0.3, 1.0, 79.0, 80.0, 90.0), renoise=["same"]
    )
    plans = two_step_plans(replace(NETWORK, **change), given)
    assert [plan.sigmas[1] for plan in plans] == kept


def test_diffusion_plans_go_by_evaluations_fewest_first() -> None:
    given = sampling(diffusion={"sampler": "heun", "num_evaluations": (9, 3, 9, 5)})
    plans = diffusion_plans(given)
    assert plans == [SamplingPlan(n, solver="heun") for n in (3, 5, 9)]
    assert first_plan(DIFFUSION, given) == plans[0]
    assert first_plan(NETWORK, given) == one_step(NETWORK)


def deployed(
    network: ModelDescription, nfe: int | None, second: float, solver: str = "heun"
) -> SamplingPlan:
    diffusion = {"sampler": solver, "num_evaluations": (3,)}
    return deployed_plan(network, sampling(diffusion=diffusion), nfe, second, "same")


@pytest.mark.parametrize(
    ("nfe", "second", "expected"),
    [
        (None, 0.5, ONE_STEP),  # the fewest there are
        (1, 1000.0, ONE_STEP),  # which takes no second level
        (2, 0.5, SamplingPlan(2, (80.0, 0.5), "same")),
        (2, 0.3, SamplingPlan(2, (80.0, 0.3), "same")),
        (2, 79.9, SamplingPlan(2, (80.0, 79.9), "same")),
    ],
)
def test_a_consistency_model_is_deployed_with_one_or_two_evaluations(
    nfe: int | None, second: float, expected: SamplingPlan
) -> None:
    assert deployed(NETWORK, nfe, second) == expected


@pytest.mark.parametrize(
    ("nfe", "second", "change", "refused"),
    [
        (3, 0.5, {}, "3 evaluations.*takes one or two"),
        (2, 0.29, {}, "the second at 0.29: "),
        (2, 80.0, {}, "the second at 80.0: "),
        (2, 0.5, {"lowest_level": 1.0}, "the second at 0.5: "),
    ],
)
def test_more_evaluations_or_levels_that_were_not_trained_are_refused(
    nfe: int, second: float, change: dict[str, float], refused: str
) -> None:
    with pytest.raises(ParameterError, match=refused):
        deployed(replace(NETWORK, **change), nfe, second)


@pytest.mark.parametrize(
    ("solver", "nfe"), [("heun", 3), ("heun", 17), *(("dpm_solver", n) for n in (1, 8))]
)
def test_a_diffusion_model_is_deployed_with_its_solver(solver: str, nfe: int) -> None:
    assert deployed(DIFFUSION, nfe, 0.5, solver) == SamplingPlan(nfe, solver=solver)
    assert deployed(DIFFUSION, None, 0.5, solver) == SamplingPlan(3, solver=solver)


@pytest.mark.parametrize("nfe", [1, 2, 8])
def test_a_number_that_heun_does_not_have_is_refused(nfe: int) -> None:
    with pytest.raises(ParameterError, match=rf"nfe={nfe}: .*odd number from 3 on"):
        deployed(DIFFUSION, nfe, 0.5)
    with pytest.raises(ValueError, match="odd numbers from 3 on"):
        DiffusionSampling(sampler="heun", num_evaluations=(5, nfe))
