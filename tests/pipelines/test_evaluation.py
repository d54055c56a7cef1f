from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from measuring import ONE_STEP, clean_fid, distance, generation_inputs

from conftest import SmokeResults, run_stages
from lct_pipeline.core.sample_quality import noise_batches
from lct_pipeline.datasets.tensor_file import TensorFile
from lct_pipeline.errors import DataError
from lct_pipeline.pipeline_registry import register_pipelines
from lct_pipeline.pipelines.evaluation.nodes import (
    draw_sample_grid,
    evaluate_models,
    log_evaluation,
    plans_of,
)
from lct_pipeline.pipelines.generation import SamplingPlan
from lct_pipeline.pipelines.references.nodes import extractor_of
from lct_pipeline.pipelines.splits import indices_of


def evaluate(
    results: SmokeResults,
    combined: TensorFile | None,
    plans: list[SamplingPlan],
    references: TensorFile | None = None,
    **changes: Any,
) -> pd.DataFrame:
    """Evaluate the models, the network described with changes."""
    load = results.catalog.load
    best = load("best_average")
    network = best.metadata["network"] | changes
    return evaluate_models(
        replace(best, metadata={**best.metadata, "network": network}),
        combined,
        load("checkpoint_index"),
        load("checkpoints"),
        {"plans": [vars(plan) for plan in plans]},
        *generation_inputs(results, references),
    )[1]


def test_reported_distance_is_clean_fids_on_the_same_features(
    results: SmokeResults,
) -> None:
    load, parameters = results.catalog.load, results.parameters
    extractor = extractor_of(load("feature_extractor"), parameters.runtime)
    images, manifest = load("images"), load("image_manifest")
    validation, test = (
        extractor.extract(images.gather("images", indices_of(manifest, split))).detach()
        for split in ("validation", "test")
    )
    rows = pd.DataFrame(load("evaluation")["rows"])
    found = rows[
        (rows["model"] == "real_validation_images")
        & (rows["metric"] == "classifier_frechet_distance")
    ]
    expected = clean_fid(validation[: parameters.evaluation.num_images], test)
    assert found["value"].item() == pytest.approx(expected, rel=1e-4)


def test_the_frechet_distance_is_to_all_images_though_features_of_some_are_kept(
    results: SmokeResults,
) -> None:
    stored = results.catalog.load("reference_statistics")
    some = {"test.features": stored.tensors["test.features"][:40]}
    fewer = replace(stored, tensors={**stored.tensors, **some})
    whole = evaluate(results, None, [ONE_STEP])
    rows = evaluate(results, None, [ONE_STEP], fewer)
    frechet = rows["metric"].str.contains("frechet")
    pd.testing.assert_frame_equal(rows[frechet], whole[frechet])
    num_test = len(indices_of(results.catalog.load("image_manifest"), "test"))
    assert set(rows["num_real"][frechet]) == {num_test}
    assert set(rows["num_real"][~frechet]) == {40}
    assert (rows["value"][~frechet] != whole["value"][~frechet]).all()


def test_each_model_is_measured_with_its_own_weights_and_each_plan(
    results: SmokeResults,
) -> None:
    load = results.catalog.load
    raw = load("checkpoints").read("step-0000060-raw")
    models = {
        "last": raw,
        "best_ema": load("best_average"),
        "combined": load("combined_model"),
    }
    rows = pd.DataFrame(load("evaluation")["rows"])
    frechet = rows[rows["metric"] == "classifier_frechet_distance"]
    values = frechet.set_index(["model", "nfe"])["value"]
    plans = plans_of(load("sampling_plans"))
    expected = {
        (name, plan.num_evaluations): distance(results, model, plan, "evaluation")
        for name, model in models.items()
        for plan in plans
    }
    assert values[list(expected)].to_dict() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("combined", [True, False])
def test_models_are_compared_with_and_without_a_combined_one(
    results: SmokeResults, caplog: pytest.LogCaptureFixture, combined: bool
) -> None:
    model = results.catalog.load("combined_model") if combined else None
    with caplog.at_level("INFO", logger="lct_pipeline"):
        rows = evaluate(results, model, [ONE_STEP])
    controls = ["gaussian_latents", "real_validation_images"]
    trained = ["last", "best_ema", *["combined"][: int(combined)]]
    assert rows["model"].drop_duplicates().tolist() == trained + controls
    assert len(rows) == 2 * len(trained + controls)
    assert ("kedro run --pipeline=combine" in caplog.text) != combined


def test_a_diffusion_model_is_measured_at_each_number_of_evaluations(
    results: SmokeResults,
) -> None:
    plans = [SamplingPlan(n, solver="heun") for n in (3, 5)]
    rows = evaluate(results, None, plans, model="diffusion", boundary=0.0)
    trained = rows[rows["nfe"] > 0]
    found = trained[["model", "nfe", "solver"]].drop_duplicates()
    assert list(found.itertuples(index=False, name=None)) == [
        (model, nfe, "heun") for model in ("last", "best_ema") for nfe in (3, 5)
    ]


def test_each_choice_and_each_result_has_noise_of_its_own(
    results: SmokeResults,
) -> None:
    search, final = results.parameters.combination, results.parameters.evaluation
    streams = {
        (search.seed, "search"),
        (final.seed, "choice"),
        (final.seed, "second step"),
        (final.seed, "evaluation"),
    }
    batches = [
        torch.cat(
            list(
                noise_batches(
                    4,
                    (2, 4, 4),
                    num_evaluations=1,
                    batch_size=4,
                    seed=seed,
                    purpose=purpose,
                )
            )
        )
        for seed, purpose in streams
    ]
    values = torch.stack(batches).flatten()
    assert len(values.unique()) == len(values)


@pytest.mark.parametrize("combined", [True, False])
def test_the_grid_shows_each_model_and_the_second_step_of_the_final_one(
    results: SmokeResults, combined: bool
) -> None:
    load, parameters = results.catalog.load, results.parameters
    figure = draw_sample_grid(
        load("best_average"),
        load("combined_model") if combined else None,
        load("checkpoint_index"),
        load("checkpoints"),
        load("sampling_plans"),
        load("images"),
        load("image_manifest"),
        load("autoencoder"),
        load("latent_normalisation"),
        parameters.sampling,
        parameters.runtime,
    )
    models = ["last checkpoint", "best average", "combined (LCSC)"][: 2 + combined]
    assert [axis.get_title() for axis in figure.axes if axis.images] == [
        *(f"{model}, NFE 1" for model in models),
        f"{models[-1]}, NFE 2",
        "no model: decoded noise",
        "real images (test split)",
    ]


def test_the_table_is_logged_for_a_person(
    results: SmokeResults, caplog: pytest.LogCaptureFixture
) -> None:
    rows = pd.DataFrame(results.catalog.load("evaluation")["rows"])
    with caplog.at_level("INFO", logger="lct_pipeline"):
        log_evaluation(rows)
    for name in ("last", "best_ema", "combined", "classifier_frechet_distance"):
        assert name in caplog.text


def test_a_table_without_rows_is_refused() -> None:
    with pytest.raises(DataError, match="no rows"):
        log_evaluation(pd.DataFrame())


def test_in_a_whole_run_evaluation_waits_for_the_combination() -> None:
    whole = register_pipelines()["__default__"]
    after = {node.name for node in whole.from_nodes("verify_combination").nodes}
    assert {"choose_second_step", "evaluate_models", "draw_sample_grid"} <= after
    assert "combined_model_if_any" not in whole.datasets()


def test_evaluation_alone_takes_the_combined_model_that_is_there(
    results: SmokeResults,
) -> None:
    alone = register_pipelines()["evaluate"]
    assert "combined_model_if_any" in alone.inputs()
    assert "combined_model" not in alone.datasets()
    one, other = (
        results.catalog.load(name)
        for name in ("combined_model_if_any", "combined_model")
    )
    assert one.metadata == other.metadata


def test_evaluation_alone_works_before_anything_is_combined(
    results: SmokeResults, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(results.project / "data", project / "data")
    (project / "data/06_models/tested/combined_model.safetensors").unlink()
    monkeypatch.chdir(project)
    run_stages(project, "evaluate", run_id="tested")
    report = json.loads((project / "data/08_reporting/evaluation.json").read_text())
    trained = {row["model"] for row in report["rows"] if row["nfe"] > 0}
    assert trained == {"last", "best_ema"}
