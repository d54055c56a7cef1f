"""The choice: which candidates there are, and that none is measured twice."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_runs import Run, pixel_run, rows_of, scores_of, tiny_run

from conftest import SmokeResults
from lct_pipeline.combination import measuring
from lct_pipeline.combination.choosing import best_rows
from lct_pipeline.combination.fitness import Fitness
from lct_pipeline.datasets.checkpoints import CheckpointStore

CHANGES: dict[str, Any] = {
    "search.methods": ("cma", "random"),
    "search.num_seeds": 2,
    "search.num_evaluations": 10,
    "search.halving": 3,
    "choice.num_candidates": 2,
}
COLUMNS = [
    "name",
    "kind",
    "control",
    "method",
    "seed",
    "alpha",
    "search_fitness",
    "place",
    "num_images",
    "metric",
    "choice_fitness",
    "choice_frechet",
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return tiny_run(tmp_path_factory.mktemp("choosing"))


@pytest.fixture(scope="module")
def history(tiny: Run) -> pd.DataFrame:
    return rows_of(tiny.search(CHANGES))


@pytest.fixture(scope="module")
def scores(tiny: Run, history: pd.DataFrame) -> pd.DataFrame:
    return scores_of(tiny.choose(history, CHANGES))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list to which each evaluation adds."""
    found: list[Any] = []

    class Counting(Fitness):
        def measure(self, weights: Any, request: Any) -> Any:
            found.append(request)
            return super().measure(weights, request)

    monkeypatch.setattr(measuring, "Fitness", Counting)
    return found


def test_a_row_has_all_columns_and_its_place(scores: pd.DataFrame) -> None:
    assert scores.columns.tolist() == COLUMNS
    assert scores["place"].tolist() == list(range(len(scores)))
    assert scores["name"].is_unique
    assert np.isfinite(scores[["choice_fitness", "choice_frechet"]]).all(axis=None)


def test_the_centre_of_each_search_is_among_the_candidates(
    scores: pd.DataFrame,
) -> None:
    centres = scores[(scores["kind"] == "centre") & (scores["seed"] >= 0)]
    found = list(zip(centres["method"], centres["seed"], strict=True))
    assert found == [("cma", 0), ("cma", 1), ("random", 0), ("random", 1)]


@pytest.mark.parametrize("num", [1, 2, 4])
def test_no_search_has_more_candidates_than_asked_for(
    tiny: Run, history: pd.DataFrame, num: int
) -> None:
    table = scores_of(tiny.choose(history, {**CHANGES, "choice.num_candidates": num}))
    of_searches = table[table["seed"] >= 0].groupby(["method", "seed"])
    assert of_searches.size().tolist() == [num] * 4
    assert of_searches["kind"].apply(lambda kinds: "centre" in set(kinds)).all()


def test_candidates_are_the_best_of_their_search(
    tiny: Run, history: pd.DataFrame
) -> None:
    table = scores_of(tiny.choose(history, {**CHANGES, "choice.num_candidates": 3}))
    found = table[(table["method"] == "cma") & (table["seed"] == 1)]
    proposed = history.query(
        "method == 'cma' and seed == 1 and kind == 'candidate' and num_images == 12"
    )
    best = proposed.sort_values("fitness").head(2)
    assert found["name"].tolist() == ["cma 1, centre", *best["name"]]
    assert found["search_fitness"].tolist()[1:] == best["fitness"].tolist()


def test_what_was_measured_on_few_images_alone_is_no_candidate(
    tiny: Run, history: pd.DataFrame
) -> None:
    table = scores_of(tiny.choose(history, {**CHANGES, "choice.num_candidates": 99}))
    few = history[history["num_images"] < 12]
    on_all = history[(history["num_images"] == 12) & (history["kind"] != "initial")]
    of_searches = table.loc[table["seed"] >= 0, "name"]
    assert sorted(of_searches) == sorted(on_all["name"])
    assert set(few["name"]) - set(of_searches)


def test_the_mean_of_centres_is_a_candidate_where_there_are_several(
    tiny: Run, history: pd.DataFrame, scores: pd.DataFrame
) -> None:
    means = scores[(scores["kind"] == "centre") & (scores["seed"] < 0)]
    assert means["name"].tolist() == [
        "cma, mean of 2 centres",
        "random, mean of 2 centres",
    ]
    centres = history[(history["kind"] == "centre") & (history["method"] == "cma")]
    expected = np.mean(np.stack(centres["alpha"].tolist()), axis=0)
    np.testing.assert_allclose(means["alpha"].iloc[0], expected)
    assert means["search_fitness"].isna().all()
    one = {**CHANGES, "search.num_seeds": 1}
    table = scores_of(tiny.choose(tiny.history(one), one))
    assert not table["name"].str.contains("mean of").any()


def test_controls_come_first_with_the_mean_of_their_scores_in_the_search(
    history: pd.DataFrame, scores: pd.DataFrame
) -> None:
    controls = scores[scores["method"] == "control"]
    assert controls["name"].tolist() == ["EMA 0.9", "uniform", "last"]
    assert controls["place"].tolist() == [0, 1, 2]
    assert (controls["seed"] == -1).all()
    for _, control in controls.iterrows():
        searched = history.loc[history["name"] == control["name"], "fitness"]
        assert len(searched) == 4
        assert control["search_fitness"] == pytest.approx(searched.mean())


def test_averages_are_controls_that_no_search_has_scored(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    run = pixel_run(tmp_path_factory.mktemp("pixels"))
    changes = {"search.num_evaluations": 5, "choice.num_candidates": 1}
    table = scores_of(run.choose(run.history(changes), changes))
    of_averages = table[table["name"].str.contains("step-|post-hoc")]
    assert len(of_averages) == 2 + len(run.parameters.evaluation.posthoc_widths)
    assert of_averages["search_fitness"].isna().all()
    assert (of_averages["control"] == "best EMA").all()


def test_wherever_it_stops_a_choice_goes_on_and_measures_nothing_twice(
    tiny: Run, history: pd.DataFrame, measured: list[Any]
) -> None:
    expected = scores_of(tiny.choose(history, CHANGES))
    total = len(measured)
    assert total == len(expected)
    for num in range(1, total + 2):  # the first output is what was known before
        measured.clear()
        with closing(tiny.choose(history, CHANGES)) as outputs:
            *_, before = [next(outputs) for _ in range(num)]
        rest = list(tiny.choose(history, CHANGES, before))
        pd.testing.assert_frame_equal(rest[-1], expected, check_exact=True)
        assert len(measured) == total


def test_a_finished_choice_reads_no_weights(
    tiny: Run,
    history: pd.DataFrame,
    scores: pd.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(CheckpointStore, "read", None)
    known, again = tiny.choose(history, CHANGES, scores)
    pd.testing.assert_frame_equal(known, scores, check_exact=True)
    pd.testing.assert_frame_equal(again, scores, check_exact=True)


def test_a_choice_among_fewer_measures_nothing_and_leaves_no_row_behind(
    tiny: Run, history: pd.DataFrame, scores: pd.DataFrame, measured: list[Any]
) -> None:
    fewer = {**CHANGES, "choice.num_candidates": 1}
    _, table = tiny.choose(history, fewer, scores)
    assert measured == []
    assert table["place"].tolist() == list(range(len(scores) - 4))


def test_a_choice_on_other_images_is_measured_anew(
    tiny: Run, history: pd.DataFrame, scores: pd.DataFrame, measured: list[Any]
) -> None:
    table = scores_of(tiny.choose(history, {**CHANGES, "choice.num_images": 9}, scores))
    assert len(measured) == len(table)
    assert {request.num_images for request in measured} == {9}
    assert not (table["choice_fitness"] == scores["choice_fitness"]).any()


def test_other_coefficients_under_an_old_name_are_measured_anew(
    tiny: Run, history: pd.DataFrame, scores: pd.DataFrame, measured: list[Any]
) -> None:
    old = scores.copy()
    old.at[4, "alpha"] = [*scores.at[4, "alpha"][:-1], 5.0]
    table = scores_of(tiny.choose(history, CHANGES, old))
    assert len(measured) == 1
    pd.testing.assert_frame_equal(table, scores)


def test_the_best_row_of_each_search_and_control_is_by_its_choice_score() -> None:
    scores = pd.DataFrame(
        [
            ("EMA 0.9", "best EMA", "control", -1, 3.0),
            ("EMA 0.99", "best EMA", "control", -1, 2.0),
            ("last", "last checkpoint", "control", -1, 9.0),
            ("cma 0, a", None, "cma", 0, 4.0),
            ("cma 0, b", None, "cma", 0, 1.0),
            ("cma 1, a", None, "cma", 1, 5.0),
            ("cma, mean of 2 centres", None, "cma", -1, 8.0),
        ],
        columns=["name", "control", "method", "seed", "choice_fitness"],
    )
    assert best_rows(scores)["name"].tolist() == [
        "cma 0, b",
        "EMA 0.99",
        "cma 1, a",
        "cma, mean of 2 centres",
        "last",
    ]


def test_the_smoke_run_chose_among_every_start_and_every_search(
    results: SmokeResults,
) -> None:
    scores = results.catalog.load("candidate_scores")
    parameters = results.parameters
    search = parameters.combination.search
    names = set(scores.loc[scores["method"] == "control", "name"])
    expected = {f"EMA {rate}" for rate in search.initial_ema_rates}
    expected |= {f"power {width}" for width in search.initial_widths}
    expected |= {f"post-hoc-{w}" for w in parameters.evaluation.posthoc_widths}
    expected |= {f"step-0000060-{t}" for t in ("ema-0.9", "ema-0.95", "power-0.1")}
    assert names == {*expected, "uniform", "last"}
    of_searches = scores[scores["seed"] >= 0].groupby(["method", "seed"]).size()
    assert len(of_searches) == len(search.methods) * search.num_seeds
    assert of_searches.max() <= parameters.combination.choice.num_candidates
