from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from conftest import SmokeResults, changed
from lct_pipeline.datasets.splits import indices_of
from lct_pipeline.evaluation.copying import nearest_training_images
from lct_pipeline.evaluation.extractors import extractor_of
from lct_pipeline.evaluation.generator import Generator


def find(results: SmokeResults, **changes: Any) -> tuple[Any, dict[str, Any]]:
    load, parameters = results.catalog.load, results.parameters
    names = ("models", "decoder", "images", "image_manifest", "reference")
    evaluation = changed(
        parameters.evaluation, {f"neighbours.{k}": v for k, v in changes.items()}
    )
    return nearest_training_images(
        *[load(name) for name in names],
        evaluation,
        parameters.sampling,
        parameters.runtime,
    )


def replace_generated(monkeypatch: pytest.MonkeyPatch, given: Tensor) -> None:
    def images(*_: Any, **__: Any) -> Iterator[Tensor]:
        yield given

    monkeypatch.setattr(Generator, "images", images)


def training_images(results: SmokeResults, *places: int) -> Tensor:
    load = results.catalog.load
    indices = indices_of(load("image_manifest"), "train")[list(places)]
    return load("images").gather("images", indices)


def test_copies_are_found_and_shown_first(
    results: SmokeResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = training_images(results, 17, 400)
    noise = torch.randint(256, (6, *copies.shape[1:])).to(torch.uint8)
    replace_generated(monkeypatch, torch.cat([noise, copies]))
    figure, record = find(results, num_images=8, num_shown=2)
    assert record["smallest_ratio"] == pytest.approx(0, abs=1e-6)
    assert record["share_below_half"] == pytest.approx(2 / 8)
    assert record["held_out_share_below_half"] < 0.5
    picture = figure.axes[0].images[0].get_array()
    step = picture.shape[0] // 2
    for row in range(2):
        generated, nearest = (
            picture[row * step : row * step + 60, at : at + 60]
            for at in (0, picture.shape[1] // 4)
        )
        np.testing.assert_array_equal(generated, nearest)


def test_distances_are_those_of_scikit_learn(
    results: SmokeResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, parameters = results.catalog.load, results.parameters
    made = torch.randint(256, (9, 3, 32, 32)).to(torch.uint8)
    replace_generated(monkeypatch, made)
    _, record = find(results, num_images=9)
    extract = extractor_of(load("reference").extractor, parameters.runtime).extract
    manifest, images = load("image_manifest"), load("images")
    with torch.no_grad():
        train, test, ours = (
            extract(batch).numpy()
            for batch in (
                images.gather("images", indices_of(manifest, "train")),
                images.gather("images", indices_of(manifest, "test")),
                made,
            )
        )
    tree = NearestNeighbors(n_neighbors=1).fit(train)
    nearest = tree.kneighbors(ours)[0][:, 0]
    assert record["num_held_out"] == 9
    assert record["num_training"] == len(train)
    held_out = tree.kneighbors(test)[0][:, 0]
    # nine of the test images, at random, stand for all of them
    assert held_out.min() <= nearest.min() / record["smallest_ratio"] <= held_out.max()
    ratio = record["median_ratio"] / record["smallest_ratio"]
    assert ratio == pytest.approx(np.median(nearest) / nearest.min(), rel=1e-4)


def test_without_images_asked_for_nothing_is_searched(results: SmokeResults) -> None:
    figure, record = find(results, num_images=0)
    assert record == {"num_images": 0}
    assert "num_images is 0" in figure.texts[0].get_text()
