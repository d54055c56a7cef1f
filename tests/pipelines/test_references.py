from __future__ import annotations

from pathlib import Path

import pytest

from conftest import SmokeResults
from lct_pipeline.errors import DataError
from lct_pipeline.pipelines.references.nodes import extractor_of, prepare_extractor


def test_without_labels_the_classifier_learns_rotations(results: SmokeResults) -> None:
    parameters = results.parameters
    manifest = results.catalog.load("image_manifest").assign(label=None)
    stored = prepare_extractor(
        results.catalog.load("images"),
        manifest,
        None,
        parameters.features,
        parameters.runtime,
    )
    extractor = extractor_of(stored, parameters.runtime)
    assert stored.metadata["task"] == "rotation"
    assert extractor.frechet_name == "rotation_classifier_frechet_distance"


def test_inception_that_is_not_there_names_file_place_and_other_choice(
    results: SmokeResults, tmp_path: Path
) -> None:
    features = results.parameters.features.model_copy(
        update={"extractor": "inception", "inception_path": str(tmp_path)}
    )
    with pytest.raises(DataError) as caught:
        prepare_extractor(
            results.catalog.load("images"),
            results.catalog.load("image_manifest"),
            None,
            features,
            results.parameters.runtime,
        )
    message = str(caught.value)
    for part in ("inception-2015-12-05.pt", str(tmp_path), "extractor=classifier"):
        assert part in message
