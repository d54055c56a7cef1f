"""Values on the test split, what a combination says of itself, and the landscape around it."""

from __future__ import annotations

import logging
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from small_runs import (
    BAD,
    CLASSIFIERS,
    GOOD,
    MIDDLE,
    D,
    Run,
    candidate_scores,
    last_of,
    references,
    weights,
)
from torch import Tensor

from conftest import SmokeResults, changed
from lct_pipeline.combination.sources import Request
from lct_pipeline.combination.stage import SELECTION_SPLIT
from lct_pipeline.combination.verification import line, plane
from lct_pipeline.combination.weights import members_of
from lct_pipeline.core.metrics.frechet import feature_statistics, frechet_distance
from lct_pipeline.core.metrics.neighbours import manifold_metrics
from lct_pipeline.core.sample_quality import features_of
from lct_pipeline.datasets.results import Baseline, CombinationResult, Scores
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.evaluation.feature_spaces import extractor_of
from lct_pipeline.evaluation.generator import build_generator
from lct_pipeline.evaluation.plans import first_plan
from lct_pipeline.models.denoiser import ModelDescription

Verified = tuple[pd.DataFrame, TensorFile, CombinationResult]
SEARCHED: dict[str, Any] = {
    "search.methods": ("cma", "random"),
    "search.num_seeds": 2,
    "search.num_evaluations": 8,
    "selection.num_candidates": 2,
}
FAIR = {"selection.num_images": 400}  # enough to tell the cases apart


@pytest.fixture(scope="module")
def scores(pixels: Run) -> pd.DataFrame:
    return last_of(pixels.score(pixels.history(SEARCHED), SEARCHED))


@pytest.fixture(scope="module")
def verified(pixels: Run, scores: pd.DataFrame) -> Verified:
    return pixels.select(scores, SEARCHED)


def given(ours: list[float], best_ema: list[float] = MIDDLE) -> pd.DataFrame:
    """Return a candidate that scored better than two baselines."""
    return candidate_scores(
        ours=("cma", 1.0, ours),
        best_ema=("baseline", 2.0, best_ema),
        last=("baseline", 3.0, MIDDLE),
    )


def test_a_combination_that_is_better_on_validation_is_the_model(tiny: Run) -> None:
    _, model, result = tiny.select(given(GOOD), FAIR)
    assert result.is_selected and result.selected == result.name == "ours"
    assert result.best_baseline == "best_ema" and result.baseline.name == "best_ema"
    assert (model.metadata["name"], model.metadata["kind"]) == ("ours", "combined")
    for name in ("scale", "shift"):
        pairs = zip(GOOD, (10, 20, 30, 40), strict=True)
        expected = sum(a * weights(step)[name].double() for a, step in pairs)
        assert torch.allclose(model.tensors[name].double(), expected, atol=1e-6)


def test_where_it_is_no_better_the_best_baseline_is_the_model_bit_for_bit(
    tiny: Run,
) -> None:
    _, model, result = tiny.select(given(BAD), FAIR)
    assert not result.is_selected
    assert (result.name, result.selected) == ("ours", "best_ema")
    assert result.alpha == BAD
    assert result.verdict.endswith("The best baseline is in its place.")
    assert (model.metadata["name"], model.metadata["kind"]) == ("best_ema", "baseline")
    for name, tensor in weights(40).items():
        assert torch.equal(model.tensors[name], tensor), name


def test_a_combination_that_loses_on_the_test_split_alone_is_the_model_and_its_loss_is_told(
    tiny: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def real(split: str) -> Tensor:
        """Return what the last checkpoint generates as the test split."""
        if split != "test":
            return references(split)
        noise = torch.randn(400, D, generator=torch.Generator().manual_seed(9))
        return noise * weights(40)["scale"] + weights(40)["shift"]

    monkeypatch.setattr(sys.modules["small_runs"], "references", real)
    evaluation = changed(tiny.parameters.evaluation, {"num_images": 400})
    report, model, result = tiny.select(given(GOOD), FAIR, evaluation=evaluation)
    assert result.scores.test > 2 * result.baseline.scores.test
    tested = report.set_index("name")["frechet_distance"]
    assert result.scores.test == tested["ours"]
    assert result.is_selected and model.metadata["name"] == "ours"
    assert "validation split" in result.verdict and "test" not in result.verdict


def test_the_combination_says_what_it_is_made_of_and_was_selected_by(
    tiny: Run, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "lct_pipeline")
    report, model, result = tiny.select(given(GOOD), FAIR)
    assert result.verdict in caplog.text
    assert "ours" in caplog.text and "best_ema" in caplog.text
    assert result.alpha == GOOD
    assert result.steps == [10, 20, 30, 40]
    assert result.checkpoints == tiny.catalog.rows["name"].tolist()
    assert result.digests == tiny.catalog.rows["digest"].tolist()
    decision = result.scores.decision
    assert decision is not None
    assert len(decision) == tiny.parameters.evaluation.num_seeds
    test = report.set_index("name").loc["ours", "frechet_distance"]
    scores = Scores(search=2.0, selection=1.0, decision=decision, test=test)
    assert result.scores == scores and result.seeds == {"0": scores}
    assert result.baselines["last"].scores.decision is None
    theirs = result.baseline.scores.decision
    assert theirs is not None
    share = 1 - np.mean(decision) / np.mean(theirs)
    assert result.gain.share == pytest.approx(share)
    assert result.parameters == tiny.combination(FAIR).model_dump(mode="json")
    assert CombinationResult.of(model.metadata["combination"]) == result


def test_the_scores_of_each_seed_of_the_method_are_told(verified: Verified) -> None:
    report, _, result = verified
    of_method = report[report["method"] == result.method].set_index("seed")
    assert sorted(result.seeds) == ["0", "1"]
    for seed, scores in result.seeds.items():
        expected = of_method.loc[int(seed), "classifier_frechet_distance"]
        assert scores.test == expected


def test_the_report_has_a_row_for_each_search_and_baseline_with_all_values(
    verified: Verified, scores: pd.DataFrame
) -> None:
    report, _, result = verified
    (alpha,) = scores.loc[scores["name"] == result.name, "alpha"]
    assert result.alpha == alpha[:4].tolist() and not any(alpha[4:])  # of averages
    columns = ["method", "seed", "baseline"]
    rows = set(report[columns].fillna("").itertuples(index=False, name=None))
    searches = {
        (method, seed, "") for method in ("cma", "random") for seed in (0, 1, -1)
    }
    assert rows == searches | {("baseline", -1, b) for b in ("last", "best_ema")}
    assert len(report) == len(rows)
    metrics = [
        f"{name}_{metric}"
        for name in CLASSIFIERS
        for metric in ("frechet_distance", "kernel_distance", "precision", "recall")
    ]
    earlier = ["search_fitness", "selection_fitness", "selection_frechet"]
    about = ["name", "baseline", "method", "seed", *earlier, "split", "num_generated"]
    assert report.columns.tolist() == [*about, *metrics]
    assert np.isfinite(report[metrics]).all(axis=None)
    before = scores.set_index("name").loc[report["name"], earlier]
    np.testing.assert_array_equal(report[earlier], before)
    assert (report["split"] == "test").all()


def test_the_number_of_images_on_the_test_split_is_that_of_the_evaluation(
    tiny: Run,
) -> None:
    for asked, expected in [(17, 17), (0, 40)]:  # 0: as many as the test split has
        evaluation = changed(tiny.parameters.evaluation, {"num_images": asked})
        report, _, _ = tiny.select(given(GOOD), evaluation=evaluation)
        assert (report["num_generated"] == expected).all()


def test_the_values_are_those_of_the_selected_weights(
    pixels: Run, verified: Verified
) -> None:
    report, model, result = verified
    row = report.set_index("name").loc[result.selected]
    real = pixels.reference.statistics.tensors
    for prefix, stored, name in [
        ("", pixels.reference.extractor, CLASSIFIERS[0]),
        ("check.", pixels.reference.check_extractor, CLASSIFIERS[1]),
    ]:
        features = features_on_test(pixels, model, stored, int(row["num_generated"]))
        test = real[f"{prefix}test.features"]
        distance = frechet_distance(*map(feature_statistics, (features, test)))
        assert row[f"{name}_frechet_distance"] == pytest.approx(distance, rel=1e-4)
        quality = manifold_metrics(test, features[: len(test)], k=3, k_density=5)
        assert row[f"{name}_precision"] == quality.precision
        assert row[f"{name}_recall"] == quality.recall


def features_on_test(
    run: Run, model: TensorFile, stored: TensorFile, num: int
) -> Tensor:
    parameters = run.parameters
    network = ModelDescription.from_json(model.metadata["network"])
    generator = build_generator(
        network,
        run.decoder,
        parameters.sampling,
        parameters.runtime,
    )
    generator.load(model.tensors)
    plan = first_plan(network, parameters.sampling)
    seed = parameters.evaluation.seed
    images = generator.images(num, plan, seed=seed, purpose="final")
    return features_of(images, extractor_of(stored, parameters.runtime).extract)


# the landscape

START, END = [0.0, 0.0, 0.0, 1.0], [0.4, -0.5, 0.3, 0.8]
COMBINATION = CombinationResult.model_construct(
    name="ours", baselines={"best_ema": Baseline.model_construct(name="theirs")}
)
CANDIDATES = pd.DataFrame(
    [("ours", "cma", None, END), ("theirs", "baseline", "best_ema", START)],
    columns=["name", "method", "baseline", "alpha"],
).assign(seed=0, selection_fitness=1.0)


def landscape(run: Run, num_line_points: int, landscape_size: int) -> pd.DataFrame:
    sizes = {"num_line_points": num_line_points, "landscape_size": landscape_size}
    return run.landscape(CANDIDATES, COMBINATION, sizes)


def fitness(run: Run, alpha: Any) -> float:
    """Return what a candidate is measured at."""
    stage = run.stage()
    with stage.measuring(SELECTION_SPLIT) as measure:
        ((_, score),) = measure(np.array([alpha]), Request("choice", 12, 0))
    return score.fitness


def test_the_line_goes_through_the_best_ema_and_the_combination() -> None:
    rows, alphas = line(np.array(START), np.array(END), 5)
    assert [row["x"] for row in rows] == [-0.5, 0.0, 0.5, 1.0, 1.5]
    np.testing.assert_array_equal(alphas[1], START)
    np.testing.assert_allclose(alphas[2], np.mean([START, END], axis=0))
    np.testing.assert_allclose(alphas[3], END)
    np.testing.assert_allclose(alphas.sum(1), 1)


def test_the_plane_has_the_three_checkpoints_at_its_corners(pixels: Run) -> None:
    members = members_of(pixels.catalog.rows, 1.0)
    rows, alphas = plane(members, 5)
    at = {(row["x"], row["y"]): alpha for row, alpha in zip(rows, alphas, strict=True)}
    assert len(at) == 25
    first, middle, last = np.eye(len(members.rows))[[0, 2, 3]]
    np.testing.assert_array_equal(at[0.0, 0.0], first)
    np.testing.assert_array_equal(at[1.0, 0.0], middle)
    np.testing.assert_array_equal(at[0.0, 1.0], last)
    np.testing.assert_array_equal(at[1.5, -0.5], 1.5 * middle - 0.5 * last)
    np.testing.assert_allclose(alphas.sum(1), 1)
    rows, alphas = plane(members_of(pixels.catalog.rows, 0.5), 3)  # of two checkpoints
    assert len(rows) == 9
    np.testing.assert_allclose(alphas.sum(1), 1)


def test_a_point_has_the_fitness_of_its_coefficients_and_is_not_measured_twice(
    tiny: Run, measured: list[Any]
) -> None:
    table = landscape(tiny, 5, 5)
    assert table.columns.tolist() == ["figure", "x", "y", "fitness", "metric"]
    assert set(table["metric"]) == {"frechet_distance"}
    # what the candidates' scores say: both ends of the line, and the last checkpoint
    assert len(measured) == len(table) - 3
    values = {
        (r["figure"], r["x"], r["y"]): r["fitness"] for r in table.to_dict("records")
    }
    known = [("line", 0.0, 0.0), ("line", 1.0, 0.0), ("plane", 0.0, 1.0)]
    assert [values[place] for place in known] == [1.0] * 3
    for place, alpha in [
        (("line", 0.5, 0.0), (np.array(START) + END) / 2),
        (("line", 1.5, 0.0), 1.5 * np.array(END) - 0.5 * np.array(START)),
        (("plane", 0.0, 0.0), np.eye(4)[0]),
        (("plane", 1.0, 0.0), np.eye(4)[2]),
    ]:
        assert values[place] == pytest.approx(fitness(tiny, alpha), rel=1e-5)


@pytest.mark.parametrize(
    ("points", "size", "counts"),
    [(0, 3, {"plane": 9}), (5, 0, {"line": 5}), (0, 0, {})],
)
def test_what_is_switched_off_has_no_rows(
    tiny: Run, points: int, size: int, counts: dict[str, int]
) -> None:
    table = landscape(tiny, points, size)
    assert table["figure"].value_counts().to_dict() == counts
    assert "fitness" in table


def test_what_the_smoke_run_leaves_fits_together(results: SmokeResults) -> None:
    load, parameters = results.catalog.load, results.parameters.combination
    history, scores = load("search_history"), load("candidate_scores")
    search, best_ema = parameters.search, load("best_ema").metadata["name"]
    assert set(history["method"]) == set(search.methods)
    num_searches = len(search.methods) * search.num_seeds
    assert history["search"].nunique() == num_searches
    assert (history["metric"] == "classifier_frechet_distance").all()
    assert scores["name"][scores["baseline"].notna()].tolist() == ["last", best_ema]
    of_searches = scores[scores["seed"] >= 0].groupby(["method", "seed"]).size()
    assert len(of_searches) == num_searches
    assert of_searches.max() <= parameters.selection.num_candidates
    points = load("landscape").groupby("figure").size().to_dict()
    plane = parameters.landscape_size**2
    assert points == {"line": parameters.num_line_points, "plane": plane}
    suffixes = {path.suffix for path in results.run.rglob("*") if path.is_file()}
    assert suffixes <= {".safetensors", ".json", ".parquet"}  # none is a pickle
    report, result = load("combination_report").set_index("name"), load("combination")
    names = {result.name, result.baseline.name}
    assert result.selected in names and names <= set(report.index)
    assert result.is_selected <= (result.gain.share > 0)
    assert load("combination_record") == {
        "selected": result.selected,
        "verdict": result.verdict,
        "num_evaluations": len(history),
        "num_candidates": len(scores),
    }
