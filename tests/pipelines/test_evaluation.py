from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from measuring import ONE_STEP, distance, frechet_by_scipy, frechet_of_sets

from conftest import SmokeResults, changed, run_stages
from lct_pipeline.core.sample_quality import features_of, noise_batches
from lct_pipeline.datasets.splits import indices_of
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import DataError
from lct_pipeline.evaluation.generator import SamplingPlan, build_generator
from lct_pipeline.evaluation.models import TITLES, plans_of
from lct_pipeline.models.autoencoder.coding import decode, to_uint8
from lct_pipeline.models.features.image_files import through_jpeg
from lct_pipeline.pipeline_registry import register_pipelines
from lct_pipeline.pipelines.evaluation import further
from lct_pipeline.pipelines.evaluation.further import measure_further_references
from lct_pipeline.pipelines.evaluation.nodes import (
    evaluate_models,
    log_evaluation,
)
from lct_pipeline.pipelines.evaluation.sample_panels import (
    draw_sample_grid,
    make_sample_panels,
)
from lct_pipeline.pipelines.references.extractors import extractor_of

FRECHET = "classifier_frechet_distance"
OF_FEATURES = {
    "classifier_kernel_distance",
    "precision",
    "recall",
    "density",
    "coverage",
}


def evaluate(
    results: SmokeResults,
    combined: TensorFile | None,
    plans: list[SamplingPlan],
    *,
    given: TensorFile | None = None,
    network: dict[str, Any] | None = None,
    inputs: dict[str, Any] | None = None,
    **changes: Any,
) -> pd.DataFrame:
    """Evaluate the models, with changes to the network, to inputs, or to the parameters."""
    parameters, replaced = results.parameters, inputs or {}

    def load(name: str) -> Any:
        return replaced.get(name) or results.catalog.load(name)

    best = load("best_average")
    about = {**best.metadata, "network": best.metadata["network"] | (network or {})}
    names = (
        "autoencoder",
        "latent_normalisation",
        "latents",
        "image_manifest",
        "feature_extractor",
        "check_extractor",
        "reference_statistics",
        "further_references",
    )
    return evaluate_models(
        replace(best, metadata=about),
        combined,
        load("checkpoint_index"),
        load("checkpoints"),
        {"plans": {name: [vars(plan) for plan in plans] for name in TITLES}},
        *[load(name) for name in names],
        given,
        changed(parameters.evaluation, changes),
        parameters.features,
        parameters.sampling,
        parameters.runtime,
    )[1]


def of_classifier(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["extractor"] == "classifier"]


def test_reported_distance_is_scipys_on_the_same_features(
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
        (rows["model"] == "real_validation_images") & (rows["metric"] == FRECHET)
    ]
    assert found["num_generated"].item() == len(validation)
    expected = frechet_of_sets(validation, test)
    assert found["value"].item() == pytest.approx(expected, rel=1e-4)


def test_the_frechet_distance_is_to_all_images_though_features_of_some_are_kept(
    results: SmokeResults,
) -> None:
    stored = results.catalog.load("reference_statistics")
    some = {"test.features": stored.tensors["test.features"][:40]}
    fewer = replace(stored, tensors={**stored.tensors, **some})
    whole = of_classifier(evaluate(results, None, [ONE_STEP], num_seeds=1))
    rows = of_classifier(
        evaluate(
            results,
            None,
            [ONE_STEP],
            num_seeds=1,
            inputs={"reference_statistics": fewer},
        )
    )
    of_features = rows["metric"].isin(OF_FEATURES)
    columns = ["model", "metric", "value", "num_real"]
    of_moments = rows.loc[~of_features, columns]
    pd.testing.assert_frame_equal(of_moments, whole.loc[~of_features, columns])
    controls = rows["model"] == "real_validation_images"
    assert set(rows.loc[~controls, "kept_real"]) == {40}
    num_test = len(indices_of(results.catalog.load("image_manifest"), "test"))
    assert set(rows["num_real"]) == {num_test}
    kernel = rows["metric"] == "classifier_kernel_distance"
    assert (rows["value"][kernel] != whole["value"][kernel]).all()


def test_seeds_are_of_other_noise_and_their_mean_is_reported(
    results: SmokeResults,
) -> None:
    def trained(**changes: Any) -> pd.DataFrame:
        rows = of_classifier(evaluate(results, None, [ONE_STEP], **changes))
        found = rows[(rows["nfe"] == 1) & (rows["metric"] == FRECHET)]
        return found.set_index("model")

    one, other = trained(seed=1, num_seeds=1), trained(seed=2, num_seeds=1)
    both = trained(seed=1, num_seeds=2)
    assert (one["value"] != other["value"]).all()
    values = np.stack([one["value"], other["value"]])
    np.testing.assert_allclose(both["value"], values.mean(0))
    np.testing.assert_allclose(both["std"], values.std(0, ddof=1))
    assert one["std"].isna().all()
    assert both["seeds"].map(list).tolist() == [[1, 2]] * len(both)


def test_every_row_says_how_its_figure_was_made(results: SmokeResults) -> None:
    rows = pd.DataFrame(results.catalog.load("evaluation")["rows"])
    assert set(rows["extractor"]) == {"classifier", "check_rotation_classifier"}
    for name in ("protocol", "extractor_digest", "reference_digest", "versions"):
        assert rows[name].str.len().gt(0).all()
    assert rows.groupby("extractor")["extractor_digest"].nunique().eq(1).all()
    assert rows["extractor_digest"].nunique() == 2
    assert set(rows["reference"]) == {"the test split"}
    assert set(rows["quantisation"]) == {"rounded"}
    assert set(rows["file_format"]) == {"lossless"}
    numbers = rows.groupby("protocol")[["num_generated", "num_real"]].nunique()
    assert numbers.eq(1).all(axis=None)


def test_all_real_images_can_be_compared_with(results: SmokeResults) -> None:
    load, parameters = results.catalog.load, results.parameters
    rows = of_classifier(evaluate(results, None, [ONE_STEP], split="all", num_seeds=1))
    assert set(rows["reference"]) == {"all real images"}
    assert set(rows["num_real"]) == {len(load("images"))}
    # real images cannot be compared with themselves
    assert "real_validation_images" not in set(rows["model"])
    extractor = extractor_of(load("feature_extractor"), parameters.runtime)
    real = features_of(load("images").batches("images", 500), extractor.extract)
    last = load("checkpoints").read("step-0000060-raw")
    generator = build_generator(
        last.metadata["network"],
        load("autoencoder"),
        load("latent_normalisation"),
        parameters.sampling,
        parameters.runtime,
    )
    generator.load(last.tensors)
    images = generator.images(64, ONE_STEP, seed=1, purpose="evaluation")
    expected = frechet_of_sets(features_of(images, extractor.extract), real)
    found = rows[(rows["model"] == "last") & (rows["metric"] == FRECHET)]
    assert found["value"].item() == pytest.approx(expected, rel=1e-4)


def test_statistics_of_others_are_compared_with_beside_ones_own(
    results: SmokeResults,
) -> None:
    stored = results.catalog.load("reference_statistics")
    tensors = {
        "mu": stored.tensors["train.mu"] + 0.1,
        "sigma": stored.tensors["train.cov"],
    }
    about = {"path": "theirs.npz", "protocol": "theirs", "digest": "1"}
    given = TensorFile(tensors, {**about, "num_images": 777})
    rows = evaluate(results, None, [ONE_STEP], given=given, num_seeds=1)
    theirs = rows[rows["reference"] == "theirs.npz (theirs)"]
    assert set(theirs["extractor"]) == {"classifier"}
    assert set(theirs["num_real"]) == {777}
    # of features themselves nothing is known
    assert not OF_FEATURES & set(theirs["metric"])
    ours = rows[rows["reference"] == "the test split"]
    assert not set(ours["protocol"]) & set(theirs["protocol"])
    other = replace(given, tensors={"mu": torch.zeros(3), "sigma": torch.eye(3)})
    with pytest.raises(DataError, match=r"theirs\.npz has 3 features"):
        evaluate(results, None, [ONE_STEP], given=other)


def test_the_autoencoder_alone_is_a_row_that_no_model_can_beat_by_much(
    results: SmokeResults,
) -> None:
    load, parameters = results.catalog.load, results.parameters
    extractor = extractor_of(load("feature_extractor"), parameters.runtime)
    manifest = load("image_manifest")
    z = load("latents").gather("mean", indices_of(manifest, "test"))
    images = to_uint8(decode(load("autoencoder").model, z))
    real = load("reference_statistics").tensors
    expected = frechet_by_scipy(
        extractor.extract(images).detach(), real["test.mu"], real["test.cov"]
    )
    rows = of_classifier(pd.DataFrame(load("evaluation")["rows"]))
    found = rows[
        (rows["model"] == "reconstructed_test_images") & (rows["metric"] == FRECHET)
    ]
    assert found["value"].item() == pytest.approx(expected, rel=1e-4)
    assert list(found["seeds"].item()) == [1]


def test_the_distance_is_known_by_the_number_of_images(results: SmokeResults) -> None:
    table = results.catalog.load("distance_by_size")
    rows = pd.DataFrame(results.catalog.load("evaluation")["rows"])
    points = table[(table["model"] == "last") & (table["nfe"] == 1)]
    points = points[points["extractor"] == "classifier"].set_index("num_images")
    # two seeds of 64 images in four blocks each
    assert points.index.tolist() == [16, 32, 64, 128]
    assert points["num_groups"].tolist() == [8, 4, 2, 1]
    figures = of_classifier(rows[(rows["model"] == "last") & (rows["nfe"] == 1)])
    values = figures.set_index("metric")["value"]
    assert points.loc[64, "mean"] == pytest.approx(values[FRECHET])
    assert values[f"{FRECHET}_infinity"] == points["infinity"].iloc[0]


def test_by_the_papers_protocol_pytorch_fids_inception_judges_jpeg_files(
    results: SmokeResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The paper's extractor is replaced by the fitted classifier: its weights are not here."""
    stored = results.catalog.load("feature_extractor")
    monkeypatch.setattr(further, "described", lambda *_: stored)
    parameters = changed(results.parameters.evaluation, {"protocol": "slct_paper"})
    load = results.catalog.load
    arguments = (parameters, results.parameters.features, results.parameters.runtime)
    references = measure_further_references(
        load("images"), load("image_manifest"), None, *arguments
    )
    rows = evaluate(
        results,
        None,
        [ONE_STEP],
        protocol="slct_paper",
        num_seeds=1,
        inputs={"further_references": references},
    )
    assert set(rows["file_format"]) == {"JPEG, quality 75"}
    assert set(rows["quantisation"]) == {"truncated"}
    assert set(rows["reference"]) == {"all real images"}
    assert set(rows["extractor"]) == {"classifier"}  # and no check extractor
    extract = extractor_of(stored, results.parameters.runtime).extract
    test = indices_of(load("image_manifest"), "test")
    jpegs = through_jpeg(load("images").gather("images", test))
    expected = extract(jpegs).double().mean(0)
    torch.testing.assert_close(
        references.tensors["0.test.mu"], expected, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("place", ["features", "evaluation", "nowhere"])
def test_the_papers_extractor_is_taken_from_where_it_is_given(
    results: SmokeResults, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    asked: list[Any] = []
    stored = results.catalog.load("feature_extractor")
    monkeypatch.setattr(further, "described", lambda e, _: asked.append(e) or stored)
    given = {"kind": "inception_pytorch", "path": "weights.pth"}
    others = [{"kind": "dinov2"}, *([given] if place == "evaluation" else [])]
    features = {"extractor": given} if place == "features" else {}
    parameters = {"protocol": "slct_paper", "extractors": others}
    measure_further_references(
        results.catalog.load("images"),
        results.catalog.load("image_manifest"),
        results.catalog.load("further_references"),
        changed(results.parameters.evaluation, parameters),
        changed(results.parameters.features, features),
        results.parameters.runtime,
    )
    assert [extractor.kind for extractor in asked] == ["inception_pytorch", "dinov2"]
    assert asked[0].path == (None if place == "nowhere" else "weights.pth")


def test_references_of_further_extractors_are_measured_once(
    results: SmokeResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = results.catalog.load
    stored = {"a.pt": load("feature_extractor"), "b.pt": load("check_extractor")}
    monkeypatch.setattr(further, "described", lambda which, _: stored[which.kind])

    def measure(previous: TensorFile | None, *kinds: str) -> TensorFile:
        changes = {"extractors": [{"kind": kind} for kind in kinds]}
        return measure_further_references(
            load("images"),
            load("image_manifest"),
            previous,
            changed(results.parameters.evaluation, changes),
            results.parameters.features,
            results.parameters.runtime,
        )

    one = measure(None, "a.pt")
    extracted: list[str] = []
    original = further.extractor_of

    def watched(file: TensorFile, runtime: Any) -> Any:
        extractor = original(file, runtime)

        def extract(images: torch.Tensor) -> torch.Tensor:
            extracted.append(extractor.name)
            return extractor.extract(images)

        return replace(extractor, extract=extract)

    monkeypatch.setattr(further, "extractor_of", watched)
    both = measure(one, "a.pt", "b.pt")
    assert set(extracted) == {"check_rotation_classifier"}
    for name, tensor in one.tensors.items():
        assert torch.equal(both.tensors[name], tensor)
    assert measure(both, "a.pt", "b.pt").metadata == both.metadata
    assert measure(None).tensors == {}


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
    frechet = rows[rows["metric"] == FRECHET]
    values = frechet.set_index(["model", "nfe"])["value"]
    plans = load("sampling_plans")
    expected = {
        (name, plan.num_evaluations): distance(results, model, plan, "evaluation")
        for name, model in models.items()
        for plan in plans_of(plans, name)
    }
    assert values[list(expected)].to_dict() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("combined", [True, False])
def test_models_are_compared_with_and_without_a_combined_one(
    results: SmokeResults, caplog: pytest.LogCaptureFixture, combined: bool
) -> None:
    model = results.catalog.load("combined_model") if combined else None
    with caplog.at_level("INFO", logger="lct_pipeline"):
        rows = evaluate(results, model, [ONE_STEP], num_seeds=1)
    controls = [
        "gaussian_latents",
        "reconstructed_test_images",
        "real_validation_images",
    ]
    trained = ["last", "best_ema", *["combined"][: int(combined)]]
    assert rows["model"].drop_duplicates().tolist() == trained + controls
    assert ("kedro run --pipeline=combine" in caplog.text) != combined


def test_a_diffusion_model_is_measured_at_each_number_of_evaluations(
    results: SmokeResults,
) -> None:
    plans = [SamplingPlan(n, solver="heun") for n in (3, 5)]
    diffusion = {"model": "diffusion", "boundary": 0.0}
    rows = evaluate(results, None, plans, network=diffusion, num_seeds=1)
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
    panels = make_sample_panels(
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
    figure = draw_sample_grid(panels)
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
    for name in ("last", "best_ema", "combined", "Frechet", "of the test split"):
        assert name in caplog.text


def test_a_table_without_rows_is_refused() -> None:
    with pytest.raises(DataError, match="no rows"):
        log_evaluation(pd.DataFrame())


def test_in_a_whole_run_evaluation_waits_for_the_combination() -> None:
    whole = register_pipelines()["__default__"]
    after = {node.name for node in whole.from_nodes("verify_combination").nodes}
    assert {"choose_second_step", "evaluate_models", "make_sample_panels"} <= after
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
