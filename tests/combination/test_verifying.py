"""The last word: final figures on the test split, and which weights are kept."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from small_runs import (
    CLASSIFIERS,
    Run,
    pixel_run,
    rows_of,
    scores_of,
    tiny_run,
    weights,
)
from torch import Tensor

from conftest import SmokeResults, changed
from lct_pipeline.core.metrics.frechet import feature_statistics, frechet_distance
from lct_pipeline.core.metrics.manifolds import manifold_metrics
from lct_pipeline.core.sample_quality import features_of
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.evaluation.extractors import extractor_of
from lct_pipeline.evaluation.generator import build_generator, first_plan

SEARCHED: dict[str, Any] = {
    "search.methods": ("cma", "random"),
    "search.num_seeds": 2,
    "search.num_evaluations": 8,
    "choice.num_candidates": 2,
}
EARLIER = ["search_fitness", "choice_fitness", "choice_frechet"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return tiny_run(tmp_path_factory.mktemp("verifying"))


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return pixel_run(tmp_path_factory.mktemp("pixels"))


@pytest.fixture(scope="module")
def scores(pixels: Run) -> pd.DataFrame:
    return scores_of(pixels.choose(rows_of(pixels.search(SEARCHED)), SEARCHED))


@pytest.fixture(scope="module")
def verified(
    pixels: Run, scores: pd.DataFrame
) -> tuple[pd.DataFrame, TensorFile, dict[str, Any]]:
    return pixels.verify(scores, SEARCHED)


@pytest.fixture(scope="module")
def report(verified: Any) -> pd.DataFrame:
    return verified[0]


def given(**rows: tuple[str, float, list[float]]) -> pd.DataFrame:
    """Return candidate scores as a choice does: method, score and coefficients by name."""
    table = [
        {
            "name": name,
            "kind": "control" if method == "control" else "candidate",
            "control": "best EMA" if method == "control" else None,
            "method": method,
            "seed": -1 if method == "control" else 0,
            "alpha": alpha,
            "search_fitness": score + 1,
            "choice_fitness": score,
            "choice_frechet": score + 2,
        }
        for name, (method, score, alpha) in rows.items()
    ]
    return pd.DataFrame(table)


# named by how well they generate
GOOD, MIDDLE, BAD = [0.2, 0.0, -0.2, 1.0], [0.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0]


def test_the_cases_are_as_good_on_the_test_split_as_their_names_say(tiny: Run) -> None:
    table = given(
        a=("cma", 1.0, GOOD), b=("control", 2.0, MIDDLE), c=("evolution", 3.0, BAD)
    )
    report, _, _ = tiny.verify(table)
    assert report["name"].tolist() == ["a", "b", "c"]
    assert report["frechet_distance"].is_monotonic_increasing


def test_a_combination_that_is_better_on_the_test_split_is_kept(tiny: Run) -> None:
    table = given(ours=("cma", 1.0, GOOD), theirs=("control", 2.0, MIDDLE))
    _, model, combination = tiny.verify(table)
    assert combination["gain_survives"] is True
    assert (combination["name"], combination["kept"]) == ("ours", "ours")
    assert combination["control"]["name"] == "theirs"
    assert combination["verdict"].startswith("By one seed of noise the combination is ")
    assert (model.metadata["name"], model.metadata["kind"]) == ("ours", "combined")
    for name in ("scale", "shift"):
        pairs = zip(GOOD, (10, 20, 30, 40), strict=True)
        expected = sum(a * weights(step)[name].double() for a, step in pairs)
        assert torch.allclose(model.tensors[name].double(), expected, atol=1e-6)


def test_where_the_gain_does_not_survive_the_control_is_kept_bit_for_bit(
    tiny: Run,
) -> None:
    table = given(ours=("cma", 1.0, BAD), theirs=("control", 2.0, MIDDLE))
    _, model, combination = tiny.verify(table)
    assert combination["gain_survives"] is False
    assert (combination["name"], combination["kept"]) == ("ours", "theirs")
    assert combination["alpha"] == BAD
    assert "gain of the search does not survive" in combination["verdict"]
    assert (model.metadata["name"], model.metadata["kind"]) == ("theirs", "control")
    for name, tensor in weights(40).items():
        assert torch.equal(model.tensors[name], tensor), name


def test_no_better_is_not_enough(tiny: Run) -> None:
    table = given(ours=("cma", 1.0, MIDDLE), theirs=("control", 2.0, MIDDLE))
    assert tiny.verify(table)[2]["gain_survives"] is False


def test_the_choice_decides_who_is_compared_whatever_the_test_split_says(
    tiny: Run,
) -> None:
    table = given(
        ours=("cma", 1.0, BAD),
        better=("evolution", 1.5, GOOD),
        theirs=("control", 2.0, MIDDLE),
    )
    _, _, combination = tiny.verify(table)
    assert (combination["name"], combination["kept"]) == ("ours", "theirs")


def test_a_random_search_is_a_control_beside_another_method(tiny: Run) -> None:
    table = given(
        ours=("cma", 1.0, MIDDLE),
        luck=("random", 1.5, GOOD),
        theirs=("control", 2.0, BAD),
    )
    _, _, combination = tiny.verify(table)
    assert combination["control"]["name"] == "luck"
    assert combination["best_ema"]["name"] == "theirs"
    assert combination["gain_survives"] is False


def test_a_random_search_alone_is_what_is_verified(tiny: Run) -> None:
    table = given(luck=("random", 1.5, GOOD), theirs=("control", 2.0, MIDDLE))
    _, _, combination = tiny.verify(table)
    assert (combination["name"], combination["method"]) == ("luck", "random")
    assert combination["control"]["name"] == "theirs"


def test_the_combination_says_what_it_is_made_of_and_was_chosen_by(tiny: Run) -> None:
    table = given(ours=("cma", 1.0, GOOD), theirs=("control", 2.0, MIDDLE))
    report, model, combination = tiny.verify(table)
    assert combination["alpha"] == GOOD
    assert combination["steps"] == [10, 20, 30, 40]
    assert combination["checkpoints"] == tiny.catalog.rows["name"].tolist()
    assert combination["digests"] == tiny.catalog.rows["digest"].tolist()
    final = report.set_index("name").loc["ours", "frechet_distance"]
    scores = {"search": 2.0, "choice": 3.0, "final": final}
    assert combination["scores"] == scores
    assert combination["seeds"] == {"0": scores}
    assert combination["parameters"] == tiny.combination().model_dump(mode="json")
    assert model.metadata["combination"] == combination


def test_the_scores_of_each_seed_of_the_method_are_told(verified: Any) -> None:
    report, _, combination = verified
    of_method = report[report["method"] == combination["method"]].set_index("seed")
    assert sorted(combination["seeds"]) == ["0", "1"]
    for seed, scores in combination["seeds"].items():
        expected = of_method.loc[int(seed), "classifier_frechet_distance"]
        assert scores["final"] == expected


def test_averages_have_no_share_in_what_is_written_as_coefficients(
    verified: Any, scores: pd.DataFrame
) -> None:
    _, _, combination = verified
    (alpha,) = scores.loc[scores["name"] == combination["name"], "alpha"]
    assert combination["alpha"] == alpha[:4] and not any(alpha[4:])
    assert len(combination["steps"]) == 4


def test_the_report_has_a_row_for_each_search_and_control(
    report: pd.DataFrame,
) -> None:
    of_searches = report[report["seed"] >= 0]
    found = set(zip(of_searches["method"], of_searches["seed"], strict=True))
    assert found == {(method, seed) for method in ("cma", "random") for seed in (0, 1)}
    assert len(of_searches) == 4
    controls = report["control"].dropna()
    assert sorted(controls) == ["best EMA", "last checkpoint", "uniform average"]
    means = report.loc[report["name"].str.contains("mean of"), "method"]
    assert sorted(means) == ["cma", "random"]
    assert len(report) == 4 + 3 + 2


def test_the_report_has_earlier_scores_and_final_ones_by_both_extractors(
    report: pd.DataFrame, scores: pd.DataFrame
) -> None:
    metrics = [
        f"{name}_{metric}"
        for name in CLASSIFIERS
        for metric in ("frechet_distance", "kernel_distance", "precision", "recall")
    ]
    about = ["name", "control", "method", "seed", *EARLIER, "split", "num_generated"]
    assert report.columns.tolist() == [*about, *metrics]
    assert np.isfinite(report[metrics]).all(axis=None)
    earlier = scores.set_index("name").loc[report["name"], EARLIER]
    np.testing.assert_array_equal(report[EARLIER], earlier)
    assert (report["split"] == "test").all()


def test_the_number_of_final_images_is_that_of_the_evaluation(
    tiny: Run,
) -> None:
    table = given(ours=("cma", 1.0, GOOD), theirs=("control", 2.0, MIDDLE))
    for asked, expected in [(17, 17), (0, 40)]:  # 0: as many as the test split has
        evaluation = changed(tiny.parameters.evaluation, {"num_images": asked})
        report, _, _ = tiny.verify(table, evaluation=evaluation)
        assert (report["num_generated"] == expected).all()


def test_the_final_figures_are_those_of_the_kept_weights(
    pixels: Run, verified: Any
) -> None:
    report, model, combination = verified
    row = report.set_index("name").loc[combination["kept"]]
    real = pixels.reference.statistics.tensors
    for prefix, stored, name in [
        ("", pixels.reference.extractor, CLASSIFIERS[0]),
        ("check.", pixels.reference.check_extractor, CLASSIFIERS[1]),
    ]:
        features = final_features(pixels, model, stored, int(row["num_generated"]))
        test = real[f"{prefix}test.features"]
        distance = frechet_distance(*map(feature_statistics, (features, test)))
        assert row[f"{name}_frechet_distance"] == pytest.approx(distance, rel=1e-4)
        quality = manifold_metrics(test, features[: len(test)], k=3, k_density=5)
        assert row[f"{name}_precision"] == quality.precision
        assert row[f"{name}_recall"] == quality.recall


def final_features(run: Run, model: TensorFile, stored: TensorFile, num: int) -> Tensor:
    parameters = run.parameters
    network = model.metadata["network"]
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


def test_the_verdict_and_the_report_are_logged(
    tiny: Run, caplog: pytest.LogCaptureFixture
) -> None:
    table = given(ours=("cma", 1.0, GOOD), theirs=("control", 2.0, MIDDLE))
    caplog.set_level(logging.INFO, "lct_pipeline")
    _, _, combination = tiny.verify(table)
    assert combination["verdict"] in caplog.text
    assert "ours" in caplog.text and "theirs" in caplog.text


def test_the_smoke_runs_model_is_the_sum_of_its_checkpoints(
    results: SmokeResults,
) -> None:
    load = results.catalog.load
    combination, model, checkpoints = (
        load(name) for name in ("combination", "combined_model", "checkpoints")
    )
    scores = load("candidate_scores").set_index("name")
    alpha = scores.loc[combination["kept"], "alpha"][: len(combination["steps"])]
    if combination["gain_survives"]:
        assert combination["alpha"] == list(alpha)
    assert sum(combination["alpha"]) == pytest.approx(1)
    expected: dict[str, Tensor] = {}
    for name, share in zip(combination["checkpoints"], alpha, strict=True):
        for key, tensor in checkpoints.read(name).tensors.items():
            expected[key] = expected.get(key, 0) + share * tensor.double()
    for key, tensor in expected.items():
        assert torch.allclose(model.tensors[key].double(), tensor, atol=1e-6), key


def test_the_smoke_runs_report_names_what_was_kept(results: SmokeResults) -> None:
    report = results.catalog.load("combination_report").set_index("name")
    combination = results.catalog.load("combination")
    names = {combination["name"], combination["control"]["name"]}
    assert combination["kept"] in names and names <= set(report.index)
    metric = "classifier_frechet_distance"
    ours, theirs = (
        report.loc[name, metric]
        for name in (combination["name"], combination["control"]["name"])
    )
    assert combination["gain_survives"] == bool(ours < theirs)
    assert not any("fid" in column.lower() for column in report.columns)


def test_the_smoke_runs_record_says_what_was_kept_of_how_many(
    results: SmokeResults,
) -> None:
    load = results.catalog.load
    combination = load("combination")
    assert load("combination_record") == {
        "kept": combination["kept"],
        "verdict": combination["verdict"],
        "num_evaluations": len(load("search_history")),
        "num_candidates": len(load("candidate_scores")),
    }
