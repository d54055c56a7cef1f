"""Pictures of models: samples side by side, and images beside the nearest training images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from conftest import SmokeResults, changed
from lct_pipeline.datasets.pictures import GAP
from lct_pipeline.datasets.splits import indices_of
from lct_pipeline.evaluation.feature_spaces import extractor_of
from lct_pipeline.evaluation.generator import Generator
from lct_pipeline.evaluation.sample_pictures import (
    draw_sample_grid,
    nearest_training_images,
    sample_panels,
)


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
    cell = 2 * copies.shape[-1] + GAP  # images are enlarged to twice their size
    for row in (0, cell):
        generated, nearest = (
            picture[row : row + cell - GAP, at : at + cell - GAP] for at in (0, cell)
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


def test_held_out_images_that_are_training_images_leave_it_open(
    results: SmokeResults,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    train = indices_of(results.catalog.load("image_manifest"), "train")
    monkeypatch.setattr(
        "lct_pipeline.evaluation.sample_pictures.indices_of", lambda *_: train
    )
    assert find(results, num_images=4)[1] == {"num_images": 0}
    assert "It cannot be told whether images were copied" in caplog.text


def test_without_images_asked_for_nothing_is_searched(results: SmokeResults) -> None:
    figure, record = find(results, num_images=0)
    assert record == {"num_images": 0}
    assert "num_images is 0" in figure.texts[0].get_text()


@pytest.mark.parametrize("combined", [True, False])
def test_the_grid_shows_each_model_and_the_second_step_of_the_final_one(
    results: SmokeResults, combined: bool
) -> None:
    load, parameters = results.catalog.load, results.parameters
    compared = load("models")
    plans = {n: p for n, p in compared.plans.items() if combined or n != "combined"}
    panels = sample_panels(
        replace(compared, plans=plans),
        load("decoder"),
        load("images"),
        load("image_manifest"),
        parameters.sampling,
        parameters.runtime,
    )
    figure = draw_sample_grid(panels)
    models = ["Last checkpoint", "Best EMA", "Combination"][: 2 + combined]
    assert [axis.get_title() for axis in figure.axes if axis.images] == [
        *(f"{model}, NFE 1" for model in models),
        f"{models[-1]}, NFE 2",
        "No model",
        "Real images",
    ]
