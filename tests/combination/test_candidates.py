"""What is selected among, and that none of it is measured twice."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_runs import Run, last_of

from lct_pipeline.combination.candidates import SCORES, best_rows, candidate_rows
from lct_pipeline.datasets.checkpoints import CheckpointStore

CHANGES: dict[str, Any] = {
    "search.methods": ("cma", "random"),
    "search.num_seeds": 2,
    "search.num_evaluations": 10,
    "selection.num_candidates": 2,
}
COLUMNS = [
    "name",
    "kind",
    "baseline",
    "method",
    "seed",
    "alpha",
    "search_fitness",
    "metric",
    "split",
    "num_images",
    "selection_fitness",
    "selection_frechet",
]


@pytest.fixture(scope="module")
def history(tiny: Run) -> pd.DataFrame:
    return tiny.history(CHANGES)


@pytest.fixture(scope="module")
def scores(tiny: Run, history: pd.DataFrame) -> pd.DataFrame:
    return last_of(tiny.score(history, CHANGES))


def test_a_row_has_all_columns(scores: pd.DataFrame) -> None:
    assert scores.columns.tolist() == COLUMNS
    assert scores["name"].is_unique
    assert np.isfinite(scores[SCORES]).all(axis=None)
    assert set(scores["split"]) == {"validation"}


@pytest.mark.parametrize("num", [1, 2, 3])
def test_candidates_are_the_mean_and_the_best_of_each_search(
    tiny: Run, history: pd.DataFrame, num: int
) -> None:
    table = last_of(tiny.score(history, {**CHANGES, "selection.num_candidates": num}))
    of_searches = table[table["seed"] >= 0].groupby(["method", "seed"])
    assert of_searches.size().tolist() == [num] * 4
    for (method, seed), found in of_searches:
        rows = history[(history["method"] == method) & (history["seed"] == seed)]
        proposed = rows[rows["kind"] == "candidate"].sort_values("fitness")
        best = proposed.head(num - 1)
        assert found["name"].tolist() == [f"{method} {seed}, mean", *best["name"]]
        assert found["search_fitness"].tolist()[1:] == best["fitness"].tolist()


def test_the_mean_of_search_means_is_a_candidate_where_there_are_several(
    tiny: Run, history: pd.DataFrame, scores: pd.DataFrame
) -> None:
    means = scores[(scores["kind"] == "mean") & (scores["seed"] < 0)]
    expected = ["cma, mean of 2 means", "random, mean of 2 means"]
    assert means["name"].tolist() == expected
    of_cma = history[(history["kind"] == "mean") & (history["method"] == "cma")]
    mean = np.mean(np.stack(of_cma["alpha"].tolist()), axis=0)
    np.testing.assert_allclose(means["alpha"].iloc[0], mean)
    assert means["search_fitness"].isna().all()
    one = {**CHANGES, "search.num_seeds": 1}
    table = last_of(tiny.score(tiny.history(one), one))
    assert not table["name"].str.contains("mean of").any()


def test_baselines_come_first_with_the_mean_of_their_scores_in_the_search(
    tiny: Run, history: pd.DataFrame, scores: pd.DataFrame
) -> None:
    baselines = scores.iloc[:2]
    assert scores["baseline"].tolist()[:2] == ["last", "best_ema"]
    assert scores["baseline"].iloc[2:].isna().all()
    assert (baselines["seed"] == -1).all()
    emas, model = tiny.emas(CHANGES)
    best = emas.sort_values(SCORES[0]).iloc[0]
    assert baselines["name"].tolist() == ["last", best["name"]]
    assert model.metadata["name"] == best["name"]
    assert baselines[SCORES].iloc[1].tolist() == best[SCORES].tolist()
    for _, baseline in baselines.iterrows():
        searched = history.loc[history["name"] == baseline["name"], "fitness"]
        assert len(searched) == 4
        assert baseline["search_fitness"] == pytest.approx(searched.mean())


def test_an_ema_that_no_search_started_from_has_no_score_of_a_search(
    pixels: Run,
) -> None:
    changes = {"search.num_evaluations": 5, "selection.num_candidates": 1}
    emas, _ = pixels.emas(changes)
    stored = emas[emas["name"].str.contains("step-|post-hoc")]
    assert len(stored) == 2 + len(pixels.parameters.evaluation.posthoc_sigma_rels)
    best = stored.assign(selection_fitness=-1.0).head(1)
    table = candidate_rows(pixels.stage(changes), pixels.history(changes), best)
    assert table[1]["name"] == best["name"].iloc[0]
    assert np.isnan(table[1]["search_fitness"])


def test_wherever_it_stops_it_goes_on_and_measures_nothing_twice(
    tiny: Run, history: pd.DataFrame, scores: pd.DataFrame, measured: list[Any]
) -> None:
    num_emas, total = len(tiny.emas(CHANGES)[0]), len(scores) - 1
    for num in range(1, total + 2):  # the first output is what was known before
        measured.clear()
        with closing(tiny.score(history, CHANGES)) as outputs:
            *_, before = [next(outputs) for _ in range(num)]
        rest = list(tiny.score(history, CHANGES, before))
        pd.testing.assert_frame_equal(rest[-1], scores, check_exact=True)
        assert len(measured) == total + 2 * num_emas


def test_what_is_scored_already_reads_no_weights(
    tiny: Run,
    history: pd.DataFrame,
    scores: pd.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    emas = tiny.emas(CHANGES)
    monkeypatch.setattr(Run, "emas", lambda *_: emas)
    monkeypatch.setattr(CheckpointStore, "read", None)
    for table in tiny.score(history, CHANGES, scores):
        pd.testing.assert_frame_equal(table, scores, check_exact=True)
    fewer = {**CHANGES, "selection.num_candidates": 1}
    assert len(last_of(tiny.score(history, fewer, scores))) == len(scores) - 4


@pytest.mark.parametrize(
    "changes", [{"selection.num_images": 9}, {"fitness.kernel_weight": 1.0}], ids=str
)
def test_measured_otherwise_every_score_is_another(
    tiny: Run, history: pd.DataFrame, scores: pd.DataFrame, changes: dict[str, Any]
) -> None:
    table = last_of(tiny.score(history, {**CHANGES, **changes}, scores))
    assert len(table) == len(scores)
    assert not (table[SCORES[0]] == scores[SCORES[0]]).any()


def test_other_coefficients_under_an_old_name_are_measured_anew(
    tiny: Run, history: pd.DataFrame, scores: pd.DataFrame, measured: list[Any]
) -> None:
    old = scores.copy()
    old.at[4, "alpha"] = np.array([*scores.at[4, "alpha"][:-1], 5.0])
    num_emas = len(tiny.emas(CHANGES)[0])
    measured.clear()
    table = last_of(tiny.score(history, CHANGES, old))
    assert len(measured) == 1 + num_emas
    pd.testing.assert_frame_equal(table, scores)


def test_the_best_row_of_each_search_and_each_baseline_is_by_its_score() -> None:
    rows = [
        ("EMA 0.99", "best_ema", "baseline", -1, 2.0),
        ("last", "last", "baseline", -1, 9.0),
        ("cma 0, a", None, "cma", 0, 4.0),
        ("cma 0, b", None, "cma", 0, 1.0),
        ("cma 1, a", None, "cma", 1, 5.0),
        ("cma, mean of 2 means", None, "cma", -1, 8.0),
    ]
    columns = ["name", "baseline", "method", "seed", "selection_fitness"]
    found = best_rows(pd.DataFrame(rows, columns=columns))
    expected = [rows[place][0] for place in (3, 0, 4, 5, 1)]
    assert found["name"].tolist() == expected
