"""Which decides: the best EMA of a run, and whether a combination is better."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from small_runs import (
    BAD,
    GOOD,
    MIDDLE,
    STEPS,
    Run,
    candidate_scores,
    generate,
    last_of,
    pixel_weights,
    weights,
)
from torch import Tensor

from conftest import SmokeResults
from lct_pipeline.combination.fitness import Fitness
from lct_pipeline.combination.selection import (
    SCORES,
    Decision,
    best_rows,
    candidate_rows,
    select_combination,
)
from lct_pipeline.datasets.checkpoints import CheckpointStore
from lct_pipeline.errors import DataError
from lct_pipeline.reporting.searches import (
    draw_landscape,
    draw_line,
    draw_search_progress,
)

EMAS = {
    "step-0000040-ema-0.9": "ema",
    "step-0000040-power-0.1": "power",
    "post-hoc-0.1": "posthoc",
    "post-hoc-0.2": "posthoc",
    "EMA 0.9": "window",
    "uniform": "window",
}


@pytest.fixture
def fitnesses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a list of what the next measurements find."""
    values: list[float] = []
    plain = Fitness.measure

    def measured(self: Fitness, *given: Any) -> Any:
        return replace(plain(self, *given), fitness=values.pop(0))

    monkeypatch.setattr(Fitness, "measure", measured)
    return values


def test_every_average_has_a_score_on_the_validation_split(pixels: Run) -> None:
    table, _ = pixels.emas()
    assert dict(zip(table["name"], table["kind"], strict=True)) == EMAS
    assert set(table["split"]) == {"validation"}
    assert set(table["num_images"]) == {pixels.combination().selection.num_images}
    assert np.isfinite(table["selection_fitness"]).all()


@pytest.mark.parametrize("place", range(len(EMAS)))
def test_whichever_average_is_best_its_weights_are_the_best_ema(
    pixels: Run, fitnesses: list[float], place: int
) -> None:
    fitnesses += [2.0 - (number == place) for number in range(len(EMAS))]
    table, best = pixels.emas()
    assert (best.metadata["name"], best.metadata["kind"]) == list(EMAS.items())[place]
    states = [pixel_weights(name) for name in pixels.stage().members.rows["name"]]
    shares = list(zip(table["alpha"][place], states, strict=True))
    for key, tensor in best.tensors.items():
        expected = sum(alpha * state[key].double() for alpha, state in shares)
        torch.testing.assert_close(tensor, expected.float(), rtol=1e-5, atol=1e-6)


def test_what_was_scored_before_is_measured_again_with_other_checkpoints_alone(
    pixels: Run, fitnesses: list[float]
) -> None:
    fitnesses += [3.0, 2.0, 1.0, 4.0, 5.0, 6.0]
    table, best = pixels.emas()
    again, same = pixels.emas(previous=table)  # nothing is left to be measured
    pd.testing.assert_frame_equal(again, table)
    assert same.metadata == best.metadata
    fitnesses += [2.0] * len(EMAS)
    table.attrs["origin"] = {**table.attrs["origin"], "checkpoints": ["others"]}
    found, _ = pixels.emas(previous=table)
    assert set(found["selection_fitness"]) == {2.0}


@pytest.mark.parametrize("kinds", [["raw"], ["ema", "ema"]], ids=str)
def test_without_an_average_or_checkpoints_to_make_one_it_is_refused(
    tiny: Run, kinds: list[str]
) -> None:
    rows = tiny.catalog.rows.tail(len(kinds)).assign(kind=kinds)
    alone = replace(tiny, catalog=replace(tiny.catalog, rows=rows))
    with pytest.raises(DataError, match="at least 2 raw checkpoints"):
        alone.emas()


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


# candidates

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


# what cannot be measured


def fragile(weights: dict[str, Tensor], *, num_images: int, seed: int) -> Any:
    """Fail as a network does in which a variance is negative, and overflow beside it."""
    if weights["scale"].min() < 0.8:
        raise FloatingPointError("negative variance")
    factor = 1e39 if weights["shift"].max() > 2 else 1  # beyond float32
    for batch in generate(weights, num_images=num_images, seed=seed):
        yield factor * batch.double()


def test_weights_that_generate_nothing_are_left_out_of_everything_that_follows(
    tiny: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    changes = {
        "search.methods": ("evolution", "random"),
        "num_line_points": 5,
        "landscape_size": 4,
    }
    monkeypatch.setattr(sys.modules["small_runs"], "generate", fragile)
    history = tiny.history(changes)
    scale, shift = (
        np.stack([weights(step)[name].double() for step in STEPS])
        for name in ("scale", "shift")
    )
    alphas = np.stack(history["alpha"])
    is_bad = ((alphas @ scale).min(1) < 0.8) | ((alphas @ shift).max(1) > 2)
    assert np.isinf(history["fitness"]).tolist() == is_bad.tolist()
    assert 0 < sum(is_bad) < len(is_bad)
    scores = last_of(tiny.score(history, changes))
    assert np.isfinite(scores["search_fitness"].dropna()).all()
    report, _, combination = tiny.select(scores, changes)
    assert np.isfinite(report["frechet_distance"]).all()
    landscape = tiny.landscape(scores, combination, changes)
    assert np.isinf(landscape["fitness"]).any()
    draw_line(landscape, combination)
    draw_landscape(landscape, combination)
    figure = draw_search_progress(history)
    assert f"{sum(is_bad)} could not be measured" in figure.layout.title.text
    assert "FloatingPointError: negative variance (" in caplog.text


def test_where_nothing_can_be_measured_one_message_says_why_and_it_may_be_mended(
    tiny: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs, tables = tiny.search(), []
    with monkeypatch.context() as patched:
        patched.setattr(sys.modules["small_runs"], "generate", None)
        message = "not even the last checkpoint: .* raised TypeError: None is not"
        with pytest.raises(DataError, match=message):
            tables += outputs
    found = last_of(tiny.search(previous=tables[-1]))
    pd.testing.assert_frame_equal(found, tiny.history(), check_exact=True)


def test_the_next_best_is_decided_on_where_the_best_cannot_be_measured_again(
    tiny: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["small_runs"], "generate", fragile)
    rows = {"ours": ("cma", 1.0, [-5.0, 6.0, 0.0, 0.0]), "next": ("cma", 2.0, MIDDLE)}
    assert decided(tiny, **rows).found["name"] == "next"
    with pytest.raises(DataError, match="no candidate can be measured"):
        decided(tiny, ours=rows["ours"])


# a combination, or the best baseline


def decided(run: Run, num_seeds: int = 2, **rows: Any) -> Decision:
    stage = run.stage({"selection.num_images": 400})
    last = ("baseline", 3.0, MIDDLE)
    return select_combination(stage, candidate_scores(last=last, **rows), num_seeds)


@pytest.mark.parametrize(
    ("rows", "compared", "selected"),
    [
        ({"ours": ("cma", 1.0, GOOD)}, ("ours", "last"), "ours"),
        ({"ours": ("cma", 1.0, BAD)}, ("ours", "last"), "last"),
        ({"ours": ("cma", 1.0, MIDDLE)}, ("ours", "last"), "last"),  # no better
        (
            {
                "ours": ("cma", 1.0, BAD),
                "better": ("evolution", 1.5, GOOD),
                "best_ema": ("baseline", 2.0, GOOD),
            },
            ("ours", "best_ema"),
            "best_ema",
        ),
        (
            {"ours": ("cma", 2.0, BAD), "luck": ("random", 1.0, GOOD)},
            ("luck", "last"),
            "luck",
        ),
    ],
    ids=range(5),
)
def test_scores_say_which_two_are_compared_and_new_noise_which_is_selected(
    tiny: Run, rows: dict[str, Any], compared: tuple[str, str], selected: str
) -> None:
    decision = decided(tiny, **rows)
    assert (decision.found["name"], decision.baseline["name"]) == compared
    assert decision.selected["name"] == selected
    assert decision.is_combination == (selected == compared[0])
    assert [len(values) for values in decision.by_seed] == [2, 2]
    assert decision.check_gain is None  # a source that makes features: no extractor


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


def test_a_second_extractor_sees_the_same_images(pixels: Run) -> None:
    one, other = np.eye(7)[3].tolist(), np.eye(7)[0].tolist()
    rows = {"ours": ("cma", 1.0, other), "last": ("baseline", 2.0, one)}
    decision = select_combination(pixels.stage(), candidate_scores(**rows), 3)
    assert [len(values) for values in decision.check_by_seed] == [3, 3]
    assert decision.check_gain is not None
    is_loss = decision.check_gain.outcome == "loss"
    assert decision.is_combination == (decision.gain.share > 0 and not is_loss)


def test_both_are_measured_on_common_noise_that_differs_by_seed(tiny: Run) -> None:
    rows = {"ours": ("cma", 1.0, MIDDLE), "last": ("baseline", 2.0, MIDDLE)}
    found = []
    for seed, num in [(0, 400), (9, 400), (0, 300)]:
        stage = tiny.stage({"selection.num_images": num, "seed": seed})
        ours, theirs = select_combination(stage, candidate_scores(**rows), 3).by_seed
        assert ours == theirs
        found += ours
    assert len(set(found)) == 9  # with another seed, or number of images, all differ
