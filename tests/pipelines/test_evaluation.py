from __future__ import annotations

import pandas as pd
import pytest
import torch
from cleanfid.fid import frechet_distance as cleanfid_frechet_distance

from conftest import SmokeResults
from lct_pipeline.pipelines.evaluation.nodes import log_evaluation
from lct_pipeline.pipelines.references.nodes import extractor_of
from lct_pipeline.pipelines.splits import indices_of


def test_reported_distance_is_clean_fids_on_the_same_features(
    results: SmokeResults,
) -> None:
    load, parameters = results.catalog.load, results.parameters
    extractor = extractor_of(load("feature_extractor"), parameters.runtime)
    images = load("images")
    validation, test = (
        extractor.extract(images.gather("images", indices_of(manifest, split)))
        .detach()
        .double()
        for manifest in [load("image_manifest")]
        for split in ("validation", "test")
    )
    validation = validation[: parameters.evaluation.num_images]
    statistics = [(f.mean(0).numpy(), f.T.cov().numpy()) for f in (validation, test)]
    expected = cleanfid_frechet_distance(*statistics[0], *statistics[1])
    rows = pd.DataFrame(load("evaluation")["rows"])
    found = rows[
        (rows["model"] == "real_validation_images")
        & (rows["metric"] == "classifier_frechet_distance")
    ]
    assert found["value"].item() == pytest.approx(expected, rel=1e-4)


def test_evaluation_and_search_use_different_noise(results: SmokeResults) -> None:
    from lct_pipeline.core.sample_quality import noise_batches

    batches = [
        next(
            iter(
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
        for seed, purpose in (
            (results.parameters.combination.seed, "search"),
            (results.parameters.evaluation.seed, "evaluation"),
        )
    ]
    assert not torch.isclose(batches[0], batches[1]).any()


def test_the_table_is_logged_for_a_person(
    results: SmokeResults, caplog: pytest.LogCaptureFixture
) -> None:
    rows = pd.DataFrame(results.catalog.load("evaluation")["rows"])
    with caplog.at_level("INFO", logger="lct_pipeline"):
        log_evaluation(rows)
    for name in ("last", "best_ema", "combined", "classifier_frechet_distance"):
        assert name in caplog.text
