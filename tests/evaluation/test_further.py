"""Extractors beside those of the references, and what others found in their images."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from conftest import SmokeResults, changed
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.evaluation import further
from lct_pipeline.evaluation.further import further_references


@pytest.mark.parametrize("place", ["features", "evaluation", "nowhere"])
def test_the_papers_extractor_is_taken_from_where_it_is_given(
    results: SmokeResults, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    asked: list[Any] = []
    stored = results.catalog.load("reference").extractor
    monkeypatch.setattr(further, "described", lambda e, _: asked.append(e) or stored)
    given = {"kind": "inception_pytorch", "path": "weights.pth"}
    others = [{"kind": "dinov2"}, *([given] if place == "evaluation" else [])]
    features = {"extractor": given} if place == "features" else {}
    parameters = {"protocol": "slct_paper", "extractors": others}
    further_references(
        results.catalog.load("images"),
        results.catalog.load("image_manifest"),
        None,
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
    reference = load("reference")
    stored = {"a.pt": reference.extractor, "b.pt": reference.check_extractor}
    monkeypatch.setattr(further, "described", lambda which, _: stored[which.kind])

    def measure(previous: TensorFile | None, *kinds: str) -> TensorFile:
        changes = {"extractors": [{"kind": kind} for kind in kinds]}
        return further_references(
            load("images"),
            load("image_manifest"),
            None,
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


def test_somebody_elses_statistics_are_kept_as_long_as_they_are_given(
    results: SmokeResults,
) -> None:
    def measure(given: TensorFile | None, previous: TensorFile | None) -> TensorFile:
        return further_references(
            results.catalog.load("images"),
            results.catalog.load("image_manifest"),
            given,
            previous,
            results.parameters.evaluation,
            results.parameters.features,
            results.parameters.runtime,
        )

    plain = measure(None, None)
    theirs = TensorFile({"mu": torch.zeros(3), "sigma": torch.eye(3)}, {"path": "a"})
    with_theirs = measure(theirs, plain)
    assert with_theirs.tensors.keys() - plain.tensors.keys() == {
        "given.mu",
        "given.sigma",
    }
    assert with_theirs.metadata["given"] == theirs.metadata
    without = measure(None, with_theirs)
    assert without.tensors.keys() == plain.tensors.keys()
    assert without.metadata == plain.metadata
