"""Extractors beside those of the references, and what others found in their images."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from measuring import real_splits

from conftest import SmokeResults, changed
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.evaluation import references
from lct_pipeline.evaluation.references import further_references


def measure(
    results: SmokeResults,
    given: TensorFile | None = None,
    previous: TensorFile | None = None,
    features: dict[str, Any] | None = None,
    **changes: Any,
) -> TensorFile:
    parameters = changed(results.parameters.evaluation, changes)
    real = real_splits(results, **(features or {}))
    return further_references(real, given, previous, parameters)


@pytest.mark.parametrize("place", ["features", "evaluation", "nowhere"])
def test_the_papers_extractor_is_taken_from_where_it_is_given(
    results: SmokeResults, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    asked: list[Any] = []
    stored = results.catalog.load("reference").extractor
    monkeypatch.setattr(references, "described", lambda e, _: asked.append(e) or stored)
    given = {"kind": "inception_pytorch", "path": "weights.pth"}
    others = [{"kind": "dinov2"}, *([given] if place == "evaluation" else [])]
    features = {"extractor": given} if place == "features" else {}
    measure(results, features=features, protocol="slct_paper", extractors=others)
    assert [extractor.kind for extractor in asked] == ["inception_pytorch", "dinov2"]
    assert asked[0].path == (None if place == "nowhere" else "weights.pth")


def test_references_of_further_extractors_are_measured_once(
    results: SmokeResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = results.catalog.load("reference")
    stored = {"a.pt": reference.extractor, "b.pt": reference.check_extractor}
    monkeypatch.setattr(references, "described", lambda which, _: stored[which.kind])
    one = measure(results, extractors=["a.pt"])
    built: list[str] = []
    plain = references.extractor_of

    def watched(file: TensorFile, runtime: Any) -> Any:
        built.append(file.metadata["name"])
        return plain(file, runtime)

    monkeypatch.setattr(references, "extractor_of", watched)
    both = measure(results, previous=one, extractors=["a.pt", "b.pt"])
    assert built == ["check_rotation_classifier"]
    for name, tensor in one.tensors.items():
        assert torch.equal(both.tensors[name], tensor)
    again = measure(results, previous=both, extractors=["a.pt", "b.pt"])
    assert again.metadata == both.metadata
    assert measure(results).tensors == {}


def test_third_party_statistics_are_kept_as_long_as_they_are_given(
    results: SmokeResults,
) -> None:
    plain = measure(results)
    theirs = TensorFile({"mu": torch.zeros(3), "sigma": torch.eye(3)}, {"path": "a"})
    with_theirs = measure(results, theirs, plain)
    added = with_theirs.tensors.keys() - plain.tensors.keys()
    assert added == {"given.mu", "given.sigma"}
    assert with_theirs.metadata["given"] == theirs.metadata
    assert measure(results, None, with_theirs) == replace(plain)
