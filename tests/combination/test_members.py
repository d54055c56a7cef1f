"""Which checkpoints are combined, where searches start, and what they have to beat."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_runs import Run, pixel_run, recipe, tiny_run

from lct_pipeline.combination.members import (
    Candidate,
    controls,
    initial_alphas,
    members_of,
)
from lct_pipeline.core.ema.profiles import gamma_of
from lct_pipeline.errors import DataError

STEPS = np.array([10, 20, 30, 40])
RAW = [f"step-{step:07d}-raw" for step in STEPS]
AVERAGES = [
    "step-0000020-power-0.1",
    "step-0000040-ema-0.9",
    "step-0000040-power-0.1",
]


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return pixel_run(tmp_path_factory.mktemp("pixels"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return tiny_run(tmp_path_factory.mktemp("members"))


def found(run: Run, window: float, widths: tuple[float, ...]) -> list[Candidate]:
    members = members_of(run.catalog.rows, window)
    return controls(members, run.combination(), widths)


@pytest.mark.parametrize(
    ("window", "steps"),
    [(1.0, [10, 20, 30, 40]), (0.75, [20, 30, 40]), (0.5, [30, 40])],
)
def test_the_window_is_the_last_share_of_the_steps(
    pixels: Run, window: float, steps: list[int]
) -> None:
    members = members_of(pixels.catalog.rows, window)
    assert members.window["step"].tolist() == steps
    assert set(members.window["kind"]) == {"raw"}
    assert members.averages["name"].tolist() == AVERAGES


def test_a_window_of_one_checkpoint_is_refused_with_what_helps(pixels: Run) -> None:
    with pytest.raises(DataError, match=r"at least 2.*has 1.*combination\.window"):
        members_of(pixels.catalog.rows, 0.25)


def test_coefficients_of_the_window_are_none_of_the_averages(pixels: Run) -> None:
    members = members_of(pixels.catalog.rows, 0.5)
    alphas = np.array([[0.25, 0.75], [-1.0, 2.0]])
    padded = members.padded(alphas)
    np.testing.assert_array_equal(padded[:, :2], alphas)
    assert padded.shape == (2, 2 + len(AVERAGES)) and not padded[:, 2:].any()
    np.testing.assert_array_equal(members.padded(alphas[0]), padded[0])


def test_searches_start_from_averages_of_the_checkpoints(pixels: Run) -> None:
    members = members_of(pixels.catalog.rows, 0.75)
    profiles = {
        "search.initial_ema_rates": (0.9, 0.95),
        "search.initial_widths": (0.1,),
    }
    initial = initial_alphas(members, pixels.combination(profiles))
    steps, gamma = STEPS[1:], gamma_of(0.1)
    # a checkpoint stands for the steps since the one before it, the first for all older ones
    expected: dict[str, Any] = {
        "EMA 0.9": np.diff(0.9 ** (40 - steps), prepend=0),
        "EMA 0.95": np.diff(0.95 ** (40 - steps), prepend=0),
        "power 0.1": np.diff((steps / 40) ** (gamma + 1), prepend=0),
        "uniform": np.full(3, 1 / 3),
        "last": [0, 0, 1],
    }
    assert list(initial) == list(expected)
    for name, alpha in expected.items():
        np.testing.assert_allclose(initial[name], alpha, atol=1e-12, err_msg=name)


def test_controls_are_the_start_and_the_averages_that_training_ended_with(
    pixels: Run,
) -> None:
    names = [candidate.name for candidate in found(pixels, 1.0, ())]
    assert names == ["EMA 0.9", "uniform", "last", *AVERAGES[1:]]


def test_a_stored_average_is_one_hot(pixels: Run) -> None:
    alphas = {c.name: c.alpha.tolist() for c in found(pixels, 0.5, ())}
    assert alphas["step-0000040-ema-0.9"] == [0, 0, 0, 1, 0]
    assert alphas["step-0000040-power-0.1"] == [0, 0, 0, 0, 1]


def test_averages_of_other_widths_are_made_of_the_stored_power_functions(
    pixels: Run,
) -> None:
    *_, same, wider = found(pixels, 1.0, (0.1, 0.2))
    assert [same.name, wider.name] == ["post-hoc-0.1", "post-hoc-0.2"]
    np.testing.assert_allclose(same.alpha, [0, 0, 0, 0, 0, 0, 1], atol=1e-9)
    assert not wider.alpha[[0, 1, 2, 3, 5]].any()
    assert wider.alpha.sum() == pytest.approx(1)


def test_each_control_says_which_it_stands_for(pixels: Run) -> None:
    kinds = {c.name: c.control for c in found(pixels, 1.0, (0.2,))}
    assert kinds.pop("uniform") == "uniform average"
    assert kinds.pop("last") == "last checkpoint"
    assert set(kinds.values()) == {"best EMA"} and len(kinds) == 4


def test_without_averages_the_start_alone_is_the_control(tiny: Run) -> None:
    names = [candidate.name for candidate in found(tiny, 1.0, (0.1, 0.2))]
    assert names == ["EMA 0.9", "uniform", "last"]


def test_the_base_recipe_has_at_least_ten_controls_of_different_profiles(
    tiny: Run,
) -> None:
    base = recipe("base").combination
    index = tiny.catalog.rows.assign(step=[2500, 3000, 4000, 5000])
    members = members_of(index, 1.0)
    alphas = [c.alpha for c in controls(members, base, ())]
    assert len(alphas) >= 10
    assert len({tuple(alpha.round(6)) for alpha in alphas}) >= 10
