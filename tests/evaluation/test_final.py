from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import torch
from kedro.io import MemoryDataset
from measuring import ONE_STEP, distance, frechet_by_scipy, frechet_of_sets, real_splits

from conftest import SmokeResults, changed
from lct_pipeline.core.sample_quality import features_of, noise_batches
from lct_pipeline.datasets.model_set import ModelSet
from lct_pipeline.datasets.reference import Reference
from lct_pipeline.datasets.splits import indices_of
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import DataError
from lct_pipeline.evaluation import references
from lct_pipeline.evaluation.feature_spaces import extractor_of
from lct_pipeline.evaluation.final import evaluated
from lct_pipeline.evaluation.generator import Generator, SamplingPlan, build_generator
from lct_pipeline.evaluation.references import feature_spaces_of
from lct_pipeline.models.autoencoder import decode, to_uint8
from lct_pipeline.models.denoiser import ModelDescription
from lct_pipeline.models.features.base import through_jpeg

FRECHET = "classifier_frechet_distance"
MODELS = ("last", "best_ema", "combined")
CONTROLS = ("gaussian_latents", "reconstructed_test_images", "real_validation_images")
KERNEL = "classifier_kernel_distance"
OF_FEATURES = {KERNEL, "precision", "recall", "density", "coverage"}


def evaluate(
    results: SmokeResults,
    combined: TensorFile | None,
    plans: list[SamplingPlan],
    *,
    reference: Reference | None = None,
    further: TensorFile | None = None,
    network: dict[str, Any] | None = None,
    **changes: Any,
) -> pd.DataFrame:
    """Evaluate the models, with changes to the network, to inputs, or to the parameters."""
    parameters, load = results.parameters, results.catalog.load
    evaluation = changed(parameters.evaluation, changes)
    spaces = feature_spaces_of(
        reference or load("reference"),
        further or load("further_references"),
        evaluation,
        parameters.features,
        parameters.runtime,
    )
    return evaluated(
        models_of(results, combined, plans, network or {}),
        load("decoder"),
        load("latents"),
        load("image_manifest"),
        spaces,
        evaluation,
        parameters.features.num_retained,
        parameters.sampling,
        parameters.runtime,
    ).table()


def models_of(
    results: SmokeResults,
    combined: TensorFile | None,
    plans: list[SamplingPlan],
    network: dict[str, Any],
) -> ModelSet:
    """Return the models of the run, sampled by other plans, with changes to the network."""
    load = results.catalog.load
    best = load("best_ema")
    about = {**best.metadata, "network": best.metadata["network"] | network}
    files = {
        "last": load("checkpoint_index"),
        "best_ema": replace(best, metadata=about),
        **({} if combined is None else {"combined": combined}),
    }
    return ModelSet(
        dict.fromkeys(files, plans),
        {},
        {name: MemoryDataset(file, copy_mode="assign") for name, file in files.items()},
    )


def table_of(results: SmokeResults) -> pd.DataFrame:
    """Return the rows of the run's evaluation."""
    rows = results.catalog.load("evaluation").rows
    return pd.DataFrame([row.model_dump() for row in rows])


def of_classifier(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["extractor"] == "classifier"]


def test_reported_distance_is_scipys_on_the_same_features(
    results: SmokeResults,
) -> None:
    load, parameters = results.catalog.load, results.parameters
    extractor = extractor_of(load("reference").extractor, parameters.runtime)
    images, manifest = load("images"), load("image_manifest")
    validation, test = (
        extractor.extract(images.gather("images", indices_of(manifest, split))).detach()
        for split in ("validation", "test")
    )
    rows = table_of(results)
    found = rows[
        (rows["model"] == "real_validation_images") & (rows["metric"] == FRECHET)
    ]
    assert found["num_generated"].item() == len(validation)
    expected = frechet_of_sets(validation, test)
    assert found["value"].item() == pytest.approx(expected, rel=1e-4)


def test_the_frechet_distance_is_to_all_images_though_features_of_some_are_kept(
    results: SmokeResults,
) -> None:
    reference = results.catalog.load("reference")
    stored = reference.statistics
    some = {"test.features": stored.tensors["test.features"][:40]}
    fewer = replace(stored, tensors={**stored.tensors, **some})
    whole = of_classifier(evaluate(results, None, [ONE_STEP], num_seeds=1))
    reference = replace(reference, statistics=fewer)
    rows = of_classifier(
        evaluate(results, None, [ONE_STEP], num_seeds=1, reference=reference)
    )
    of_features = rows["metric"].isin(OF_FEATURES)
    columns = ["model", "metric", "value", "num_real"]
    of_moments = rows.loc[~of_features, columns]
    pd.testing.assert_frame_equal(of_moments, whole.loc[~of_features, columns])
    controls = rows["model"] == "real_validation_images"
    assert set(rows.loc[~controls, "kept_real"]) == {40}
    num_test = len(indices_of(results.catalog.load("image_manifest"), "test"))
    assert set(rows["num_real"]) == {num_test}
    kernel = rows["metric"] == KERNEL
    assert (rows["value"][kernel] != whole["value"][kernel]).all()


def test_every_row_says_how_its_value_was_made(results: SmokeResults) -> None:
    rows = table_of(results)
    for name in ("protocol", "extractor_digest", "reference_digest", "versions"):
        assert rows[name].str.len().gt(0).all()
    assert rows.groupby("extractor")["extractor_digest"].nunique().to_dict() == {
        "classifier": 1,
        "check_rotation_classifier": 1,
    }
    made = rows[["reference", "quantisation", "file_format"]].drop_duplicates()
    assert made.to_numpy().tolist() == [["the test split", "rounded", "lossless"]]
    numbers = rows.groupby("protocol")[["num_generated", "num_real"]].nunique()
    assert numbers.eq(1).all(axis=None)


def test_all_real_images_can_be_compared_with(results: SmokeResults) -> None:
    load, parameters = results.catalog.load, results.parameters
    rows = of_classifier(evaluate(results, None, [ONE_STEP], split="all", num_seeds=1))
    assert set(rows["reference"]) == {"all real images"}
    assert set(rows["num_real"]) == {len(load("images"))}
    # real images cannot be compared with themselves
    assert "real_validation_images" not in set(rows["model"])
    extractor = extractor_of(load("reference").extractor, parameters.runtime)
    real = features_of(load("images").batches("images", 500), extractor.extract)
    last = load("checkpoints").read("step-0000060-raw")
    generator = build_generator(
        ModelDescription.from_json(last.metadata["network"]),
        load("decoder"),
        parameters.sampling,
        parameters.runtime,
    )
    generator.load(last.tensors)
    images = generator.images(64, ONE_STEP, seed=1, purpose="evaluation")
    expected = frechet_of_sets(features_of(images, extractor.extract), real)
    found = rows[(rows["model"] == "last") & (rows["metric"] == FRECHET)]
    assert found["value"].item() == pytest.approx(expected, rel=1e-4)


def further_with(
    results: SmokeResults, given: TensorFile | None, **changes: Any
) -> TensorFile:
    """Return the further references with third-party statistics, measured anew."""
    parameters = changed(results.parameters.evaluation, changes)
    return references.further_references(real_splits(results), given, None, parameters)


def test_third_party_statistics_are_compared_with_beside_ones_own(
    results: SmokeResults,
) -> None:
    stored = results.catalog.load("reference").statistics.tensors
    tensors = {"mu": stored["train.mu"] + 0.1, "sigma": stored["train.cov"]}
    about = {"path": "theirs.npz", "protocol": "theirs", "digest": "1"}
    given = TensorFile(tensors, {**about, "num_images": 777})
    further = further_with(results, given)
    named = {"path": "folder/theirs.npz", "protocol": "theirs", "num_images": 777}
    asked: dict[str, Any] = {f"reference.{key}": v for key, v in named.items()}
    rows = evaluate(results, None, [ONE_STEP], num_seeds=1, further=further, **asked)
    theirs = rows[rows["reference"] == "theirs.npz (theirs)"]
    assert set(theirs["extractor"]) == {"classifier"}
    assert set(theirs["num_real"]) == {777}
    # of features themselves nothing is known
    assert not OF_FEATURES & set(theirs["metric"])
    ours = rows[rows["reference"] == "the test split"]
    assert not set(ours["protocol"]) & set(theirs["protocol"])
    other = replace(given, tensors={"mu": torch.zeros(3), "sigma": torch.eye(3)})
    with pytest.raises(DataError, match=r"those of theirs\.npz \(theirs\) 3"):
        wrong = further_with(results, other)
        evaluate(results, None, [ONE_STEP], further=wrong, **asked)
    with pytest.raises(DataError, match=r"measured for other values of evaluation"):
        evaluate(results, None, [ONE_STEP], further=further)  # and none is asked for


def test_the_autoencoder_alone_is_a_row_that_no_model_can_beat_by_much(
    results: SmokeResults,
) -> None:
    load, parameters = results.catalog.load, results.parameters
    extractor = extractor_of(load("reference").extractor, parameters.runtime)
    manifest = load("image_manifest")
    z = load("latents").gather("mean", indices_of(manifest, "test"))
    images = to_uint8(decode(load("autoencoder").model, z))
    real = load("reference").statistics.tensors
    expected = frechet_by_scipy(
        extractor.extract(images).detach(), real["test.mu"], real["test.cov"]
    )
    rows = of_classifier(table_of(results))
    found = rows[
        (rows["model"] == "reconstructed_test_images") & (rows["metric"] == FRECHET)
    ]
    assert found["value"].item() == pytest.approx(expected, rel=1e-4)
    assert list(found["seeds"].item()) == [1]


def test_the_distance_is_known_by_the_number_of_images(results: SmokeResults) -> None:
    table = results.catalog.load("distance_by_size")
    rows = table_of(results)
    points = table[(table["model"] == "last") & (table["nfe"] == 1)]
    points = points[points["extractor"] == "classifier"].set_index("num_images")
    # two seeds of 64 images in four blocks each
    assert points.index.tolist() == [16, 32, 64, 128]
    assert points["num_groups"].tolist() == [8, 4, 2, 1]
    figures = of_classifier(rows[(rows["model"] == "last") & (rows["nfe"] == 1)])
    values = figures.set_index("metric")["value"]
    assert points.loc[64, "mean"] == pytest.approx(values[FRECHET])
    assert values[f"{FRECHET}_infinity"] == points["infinity"].iloc[0]


def test_by_the_papers_protocol_pytorch_fids_inception_sees_jpeg_files(
    results: SmokeResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The paper's extractor is replaced by the fitted classifier: its weights are not here."""
    load = results.catalog.load
    stored = load("reference").extractor
    monkeypatch.setattr(references, "described", lambda *_: stored)
    measured = further_with(results, None, protocol="slct_paper")
    rows = evaluate(
        results,
        None,
        [ONE_STEP],
        protocol="slct_paper",
        num_seeds=1,
        further=measured,
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
        measured.tensors["0.test.mu"], expected, rtol=1e-5, atol=1e-6
    )


def test_each_model_is_measured_with_its_own_weights_and_each_plan(
    results: SmokeResults,
) -> None:
    load = results.catalog.load
    raw = load("checkpoints").read("step-0000060-raw")
    models = {
        "last": raw,
        "best_ema": load("best_ema"),
        "combined": load("combined_model"),
    }
    rows = table_of(results)
    frechet = rows[rows["metric"] == FRECHET]
    values = frechet.set_index(["model", "nfe"])["value"]
    compared = load("models")
    expected = {
        (name, plan.num_evaluations): distance(results, model, plan, "evaluation")
        for name, model in models.items()
        for plan in compared.plans[name]
    }
    assert values[list(expected)].to_dict() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("combined", [True, False])
def test_models_are_compared_with_and_without_a_combined_one(
    results: SmokeResults, caplog: pytest.LogCaptureFixture, combined: bool
) -> None:
    model = results.catalog.load("combined_model") if combined else None
    with caplog.at_level("INFO", logger="lct_pipeline"):
        rows = evaluate(results, model, [ONE_STEP], num_seeds=1)
    names = [*(name for name in MODELS if combined or name != "combined"), *CONTROLS]
    assert rows["model"].drop_duplicates().tolist() == names
    assert ("kedro run --pipeline=combine" in caplog.text) != combined


def test_a_model_that_equals_another_is_not_measured_again(
    results: SmokeResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    plain = Generator.images

    def counted(self: Generator, num: int, *given: Any, **noise: Any) -> Any:
        made.append(num)
        return plain(self, num, *given, **noise)

    monkeypatch.setattr(Generator, "images", counted)
    last = results.catalog.load("checkpoints").read("step-0000060-raw")
    rows = evaluate(results, last, [ONE_STEP], num_seeds=1)
    assert len(made) == 2  # the last checkpoint and the best EMA
    columns = ["metric", "extractor", "value", "protocol"]
    one, same = (rows[rows["model"] == name] for name in ("last", "combined"))
    pd.testing.assert_frame_equal(
        *(part[columns].reset_index(drop=True) for part in (one, same))
    )


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


def test_each_selection_and_each_result_has_noise_of_its_own(
    results: SmokeResults,
) -> None:
    search, final = results.parameters.combination.seed, results.parameters.evaluation
    purposes = [(search, name) for name in ("search", "choice", "decision")]
    purposes += [(final.seed, name) for name in ("final", "second step", "evaluation")]
    size = {"num_evaluations": 1, "batch_size": 4}
    batches = [
        batch
        for seed, purpose in purposes
        for batch in noise_batches(4, (2, 4, 4), **size, seed=seed, purpose=purpose)
    ]
    values = torch.stack(batches).flatten()
    assert len(values.unique()) == len(values)
