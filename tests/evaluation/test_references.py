"""What generated images are compared with."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from measuring import real_splits
from stand_ins import write_inception

from conftest import SmokeResults
from lct_pipeline.datasets.parts import Last, opened
from lct_pipeline.datasets.reference import Parts
from lct_pipeline.datasets.splits import SPLITS, indices_of
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import DataError
from lct_pipeline.evaluation import references as module
from lct_pipeline.evaluation.feature_spaces import extractor_of, real_images
from lct_pipeline.evaluation.references import CHECK

NAMES = {"": "extractor", CHECK: "check_extractor"}


def prepare(
    results: SmokeResults,
    previous: Parts | None = None,
    *,
    labels: bool = False,
    **features: Any,
) -> Parts:
    """Prepare both extractors, of images without labels; nothing is measured."""
    real = real_splits(results, **features)
    if not labels:
        real = replace(real, manifest=real.manifest.assign(label=None))
    with closing(real.reference(previous or {})) as parts:
        return {**opened(next(parts))[0], **opened(next(parts))[0]}


def measure(
    results: SmokeResults,
    previous: TensorFile | None = None,
    *,
    check_extractor: TensorFile | None = None,
    **changes: Any,
) -> TensorFile:
    """Measure the real images by extractors that are there, with changes to the parameters."""
    there = vars(results.catalog.load("reference")) | {"statistics": previous}
    if check_extractor is not None:
        there["check_extractor"] = check_extractor
    known = {name: part for name, part in there.items() if part is not None}
    *_, last = real_splits(results, **changes).reference(known)
    assert isinstance(last, Last)
    return last.value["statistics"]


@pytest.fixture(scope="module")
def references(results: SmokeResults) -> TensorFile:
    return results.catalog.load("reference").statistics


def test_without_labels_both_learn_rotations_and_differ(results: SmokeResults) -> None:
    first, check = prepare(results).values()
    names = [file.metadata["name"] for file in (first, check)]
    assert names == ["rotation_classifier", "check_rotation_classifier"]
    assert first.metadata["num_classes"] == check.metadata["num_classes"] == 4
    weights = [file.tensors["head.weight"] for file in (first, check)]
    assert not torch.allclose(*weights)


def test_the_check_extractor_learns_rotations_of_images_with_labels(
    results: SmokeResults,
) -> None:
    reference = results.catalog.load("reference")
    assert reference.extractor.metadata["num_classes"] == 10
    stored, same = reference.check_extractor, prepare(results)["check_extractor"]
    assert stored.metadata == same.metadata
    assert all(torch.equal(same.tensors[k], t) for k, t in stored.tensors.items())


def test_beside_inception_the_check_extractor_is_a_classifier(
    results: SmokeResults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_inception(tmp_path, monkeypatch)
    extractor = {"kind": "inception", "path": str(path)}
    stored = prepare(results, extractor=extractor)
    assert stored["extractor"].metadata["extractor"]["kind"] == "inception"
    assert stored["check_extractor"].metadata["name"] == "check_rotation_classifier"
    path.unlink()
    with pytest.raises(DataError) as caught:
        prepare(results, extractor=extractor)
    for part in (path.name, str(tmp_path), "kind=classifier"):
        assert part in str(caught.value)


@pytest.mark.parametrize("name", NAMES.values())
def test_a_trained_classifier_is_taken_as_it_is_while_the_images_are_the_same(
    results: SmokeResults, name: str
) -> None:
    previous = vars(results.catalog.load("reference"))
    stored, changes = previous[name], {"classifier.num_steps": 1, "labels": True}
    assert prepare(results, previous, **changes)[name] is stored
    other = replace(stored, metadata={**stored.metadata, "images": "others"})
    found = prepare(results, {**previous, name: other}, **changes)[name]
    assert found.metadata == stored.metadata
    assert not torch.equal(found.tensors["head.weight"], stored.tensors["head.weight"])


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("prefix", ["", CHECK])
def test_mean_and_covariance_are_of_all_images_of_a_split(
    results: SmokeResults, references: TensorFile, prefix: str, split: str
) -> None:
    load, runtime = results.catalog.load, results.parameters.runtime
    extractor = extractor_of(getattr(load("reference"), NAMES[prefix]), runtime)
    indices = indices_of(load("image_manifest"), split)
    with torch.no_grad():
        features = extractor.extract(load("images").gather("images", indices)).double()
    found = real_images(references, split, prefix).frechet.statistics
    np.testing.assert_allclose(found.mu, features.mean(0), rtol=1e-5, atol=1e-6)
    expected = np.cov(features, rowvar=False)
    np.testing.assert_allclose(found.cov, expected, rtol=1e-4, atol=1e-6)
    assert found.num_images == len(features)
    assert found.cov.dtype == torch.float64


def test_the_number_of_images_is_known_though_features_of_some_are_kept(
    results: SmokeResults, references: TensorFile
) -> None:
    manifest: pd.DataFrame = results.catalog.load("image_manifest")
    counts = {split: len(indices_of(manifest, split)) for split in SPLITS}
    most = results.parameters.features.num_retained
    assert counts["validation"] < most < counts["train"]
    assert references.metadata["num_images"] == counts
    for split, count in counts.items():
        for prefix in NAMES:
            kept = references.tensors[f"{prefix}{split}.features"]
            assert len(kept) == min(count, most)


def test_the_features_that_are_kept_are_of_the_same_images_each_time(
    results: SmokeResults, references: TensorFile
) -> None:
    again, fewer = measure(results), measure(results, num_retained=20)
    for name, tensor in references.tensors.items():
        assert torch.equal(again.tensors[name], tensor), name
        if not name.endswith(".features"):
            assert torch.equal(fewer.tensors[name], tensor), name
    all_features = {tuple(row) for row in references.tensors["test.features"].tolist()}
    kept = fewer.tensors["test.features"].tolist()
    assert len(kept) == 20
    assert {tuple(row) for row in kept} <= all_features
    assert kept != references.tensors["test.features"][:20].tolist()
    other = measure(results, num_retained=20, seed=9).tensors["test.features"].tolist()
    assert other != kept


def test_memory_holds_a_batch_and_what_is_kept(
    results: SmokeResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    original = module.feature_batches

    def watched(batches: Any, extract: Any) -> Any:
        for features in original(batches, extract):
            sizes.append(len(features))
            yield features

    monkeypatch.setattr(module, "feature_batches", watched)
    found = measure(results, num_retained=6, batch_size=50)
    assert max(sizes) == 50
    assert sum(sizes) == 2 * sum(found.metadata["num_images"].values())


def test_references_are_measured_again_only_for_other_images_or_extractors(
    results: SmokeResults, references: TensorFile
) -> None:
    assert measure(results, references) is references
    others = replace(references, metadata={**references.metadata, "images": "others"})
    assert measure(results, others).metadata == references.metadata
    extractor = results.catalog.load("reference").check_extractor
    tensors = {name: t + 1e-3 for name, t in extractor.tensors.items()}
    other = replace(extractor, tensors=tensors)
    found = measure(results, references, check_extractor=other).tensors
    assert not torch.equal(found["check.test.mu"], references.tensors["check.test.mu"])
    assert torch.equal(found["test.mu"], references.tensors["test.mu"])
