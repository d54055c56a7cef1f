"""Which decides: the best EMA of a run, and whether a combination is better."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from selecting import BAD, GOOD, MIDDLE, candidate_scores
from small_runs import PIXEL_CHECKPOINTS, Run, pixel_run, pixel_weights, tiny_run

from conftest import SmokeResults
from lct_pipeline.combination import measuring
from lct_pipeline.combination.baselines import posthoc_alpha
from lct_pipeline.combination.fitness import Fitness
from lct_pipeline.combination.selection import Decision, select_combination
from lct_pipeline.errors import DataError

EMAS = [
    "step-0000040-ema-0.9",
    "step-0000040-power-0.1",
    "post-hoc-0.1",
    "post-hoc-0.2",
    "EMA 0.9",
    "uniform",
]
KINDS = ["ema", "power", "posthoc", "posthoc", "window", "window"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return tiny_run(tmp_path_factory.mktemp("selection"))


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return pixel_run(tmp_path_factory.mktemp("pixels"))


@pytest.fixture
def fitnesses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a list of what the next measurements find."""
    values: list[float] = []
    plain = Fitness.measure

    def measured(self: Fitness, *given: Any) -> Any:
        return replace(plain(self, *given), fitness=values.pop(0))

    monkeypatch.setattr(measuring.Fitness, "measure", measured)
    return values


def test_every_average_has_a_score_on_the_validation_split(pixels: Run) -> None:
    table, _ = pixels.emas()
    assert table["name"].tolist() == EMAS
    assert table["kind"].tolist() == KINDS
    assert set(table["split"]) == {"validation"}
    assert set(table["num_images"]) == {pixels.combination().selection.num_images}
    assert np.isfinite(table["selection_fitness"]).all()


@pytest.mark.parametrize("place", range(len(EMAS)))
def test_whichever_average_is_best_its_weights_are_the_best_ema(
    pixels: Run, fitnesses: list[float], place: int
) -> None:
    fitnesses += [2.0 - (number == place) for number in range(len(EMAS))]
    table, best = pixels.emas()
    assert best.metadata["name"] == EMAS[place]
    assert best.metadata["kind"] == KINDS[place]
    names = pixels.stage().members.rows["name"]
    expected = sum_of(table["alpha"][place], names)
    for key, tensor in best.tensors.items():
        torch.testing.assert_close(tensor, expected[key], rtol=1e-5, atol=1e-6)


def sum_of(alpha: np.ndarray, names: pd.Series) -> dict[str, torch.Tensor]:
    """Return a combination of the run of pixels, added up in float64."""
    states = [pixel_weights(name) for name in names]
    return {
        key: sum(
            a * w[key].double() for a, w in zip(alpha, states, strict=True)
        ).float()
        for key in states[0]
    }


def test_an_average_made_afterwards_is_of_the_stored_power_functions(
    pixels: Run,
) -> None:
    table, _ = pixels.emas()
    rows = pixels.stage().members.rows
    power = rows["kind"] == "power"
    alpha = table.set_index("name").loc["post-hoc-0.2", "alpha"]
    np.testing.assert_array_equal(alpha[power], posthoc_alpha(rows[power], 0.2))
    assert set(rows["name"][power]) < set(PIXEL_CHECKPOINTS)


def test_what_was_scored_before_is_not_measured_again(
    pixels: Run, fitnesses: list[float]
) -> None:
    fitnesses += [3.0, 2.0, 1.0, 4.0, 5.0, 6.0]
    table, best = pixels.emas()
    again, same = pixels.emas(previous=table)  # nothing is left to be measured
    pd.testing.assert_frame_equal(again, table)
    assert same.metadata == best.metadata


def test_with_other_checkpoints_every_average_is_measured_anew(
    pixels: Run, fitnesses: list[float]
) -> None:
    fitnesses += [1.0] * len(EMAS)
    table, _ = pixels.emas()
    fitnesses += [2.0] * len(EMAS)
    other = table.copy()
    other.attrs["origin"] = {**table.attrs["origin"], "checkpoints": ["others"]}
    found, _ = pixels.emas(previous=other)
    assert set(found["selection_fitness"]) == {2.0}


@pytest.mark.parametrize("kinds", [["raw"], ["ema", "ema"]], ids=str)
def test_without_an_average_or_checkpoints_to_make_one_it_is_refused(
    tiny: Run, kinds: list[str]
) -> None:
    rows = tiny.catalog.rows.tail(len(kinds)).assign(kind=kinds)
    alone = replace(tiny, catalog=replace(tiny.catalog, rows=rows))
    with pytest.raises(DataError, match="at least 2 raw checkpoints"):
        alone.emas()


def test_averages_that_were_replaced_are_refused(pixels: Run) -> None:
    rows = pixels.catalog.rows.assign(digest="another")
    other = replace(pixels, catalog=replace(pixels.catalog, rows=rows))
    with pytest.raises(DataError, match="not the checkpoint that was cataloged"):
        other.emas()


def test_the_smoke_run_has_one_best_ema_wherever_it_is_named(
    results: SmokeResults,
) -> None:
    load = results.catalog.load
    table, name = load("ema_selection"), load("best_ema").metadata["name"]
    best = table.sort_values("selection_fitness", kind="stable").iloc[0]
    assert best["name"] == name
    assert load("combination").baselines["best_ema"].name == name
    report = load("combination_report").set_index("baseline")
    assert report.loc["best_ema", "name"] == name
    candidates = load("candidate_scores").set_index("baseline")
    assert candidates.loc["best_ema", "selection_fitness"] == best["selection_fitness"]


def decided(run: Run, num_seeds: int = 2, **rows: Any) -> Decision:
    stage = run.stage({"selection.num_images": 400})
    return select_combination(stage, candidate_scores(**rows), num_seeds)


def test_the_better_one_on_new_noise_is_selected(tiny: Run) -> None:
    good = decided(tiny, ours=("cma", 1.0, GOOD), last=("baseline", 2.0, MIDDLE))
    assert good.is_combination and good.selected["name"] == "ours"
    assert good.gain.share > 0 and [len(values) for values in good.by_seed] == [2, 2]
    bad = decided(tiny, ours=("cma", 1.0, BAD), last=("baseline", 2.0, MIDDLE))
    assert not bad.is_combination and bad.selected["name"] == "last"
    assert bad.gain.share < 0


def test_no_better_is_not_enough(tiny: Run) -> None:
    same = decided(tiny, ours=("cma", 1.0, MIDDLE), last=("baseline", 2.0, MIDDLE))
    assert same.gain.share == 0 and same.selected["name"] == "last"


@pytest.mark.parametrize(
    ("ours", "check", "is_combination"),
    [
        ([9.0, 9.0], [], True),
        ([9.0, 9.0], [4.0, 4.0], True),
        ([9.0, 9.0], [5.5, 5.5], False),  # a loss by the other extractor
        ([9.0, 9.0], [5.0, 6.0], True),  # which may be chance
        ([9.0], [5.5], True),  # of one seed nobody knows
        ([10.0, 10.0], [4.0, 4.0], False),
        ([11.0, 11.0], [4.0, 4.0], False),
    ],
)
def test_a_gain_of_the_first_extractor_alone_is_none(
    ours: list[float], check: list[float], is_combination: bool
) -> None:
    found, baseline = pd.Series({"name": "ours"}), pd.Series({"name": "theirs"})
    theirs, other = [10.0] * len(ours), [5.0] * len(check)
    decision = Decision(found, baseline, (ours, theirs), (check, other))
    assert decision.is_combination == is_combination
    assert decision.selected["name"] == ("ours" if is_combination else "theirs")


def test_scores_say_which_two_are_compared(tiny: Run) -> None:
    decision = decided(
        tiny,
        ours=("cma", 1.0, BAD),
        better=("evolution", 1.5, GOOD),
        last=("baseline", 3.0, MIDDLE),
        best_ema=("baseline", 2.0, GOOD),
    )
    assert decision.found["name"] == "ours"
    assert decision.baseline["name"] == "best_ema"


def test_a_random_search_may_give_the_combination(tiny: Run) -> None:
    decision = decided(
        tiny,
        ours=("cma", 2.0, BAD),
        luck=("random", 1.0, GOOD),
        last=("baseline", 3.0, MIDDLE),
    )
    assert decision.selected["name"] == "luck"


def test_a_second_extractor_sees_the_same_images(tiny: Run, pixels: Run) -> None:
    one, other = np.eye(7)[3].tolist(), np.eye(7)[0].tolist()
    rows = {"ours": ("cma", 1.0, other), "last": ("baseline", 2.0, one)}
    decision = select_combination(pixels.stage(), candidate_scores(**rows), 3)
    assert [len(values) for values in decision.check_by_seed] == [3, 3]
    assert decision.check_gain is not None
    is_loss = decision.check_gain.outcome == "loss"
    assert decision.is_combination == (decision.gain.share > 0 and not is_loss)
    # a source that makes features is seen by no extractor
    features = decided(tiny, ours=("cma", 1.0, GOOD), last=("baseline", 2.0, MIDDLE))
    assert features.check_gain is None


def test_both_are_measured_on_common_noise_that_differs_by_seed(tiny: Run) -> None:
    rows = {"ours": ("cma", 1.0, GOOD), "last": ("baseline", 2.0, GOOD)}
    decision = decided(tiny, 3, **rows)
    ours, theirs = decision.by_seed
    assert ours == theirs and len(set(ours)) == 3
    changes = {"selection.num_images": 400, "seed": 9}
    other = select_combination(tiny.stage(changes), candidate_scores(**rows), 3)
    assert set(other.by_seed[0]).isdisjoint(ours)


def test_the_number_of_images_is_that_of_the_selection(tiny: Run) -> None:
    rows = {"ours": ("cma", 1.0, GOOD), "last": ("baseline", 2.0, MIDDLE)}
    few, many = (
        select_combination(
            tiny.stage({"selection.num_images": num}), candidate_scores(**rows), 1
        )
        for num in (9, 12)
    )
    assert few.by_seed != many.by_seed
