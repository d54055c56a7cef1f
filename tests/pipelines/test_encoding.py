from __future__ import annotations

import pytest
import torch

from conftest import SmokeResults
from lct_pipeline.datasets.splits import indices_of
from lct_pipeline.pipelines.encoding.nodes import (
    measure_reconstruction,
    prepare_autoencoder,
)
from lct_pipeline.pipelines.encoding.steps import measure_normalisation


def test_normalised_training_samples_have_mean_0_and_std_half(
    results: SmokeResults,
) -> None:
    catalog = results.catalog
    indices = indices_of(catalog.load("latent_manifest"), "train")
    latents = catalog.load("latents")
    stored = catalog.load("latent_normalisation").tensors
    mean, std = (latents.gather(name, indices) for name in ("mean", "std"))
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
    x = (mean + std * noise - stored["mean"]) / stored["std"] * 0.5
    assert x.mean(0).abs().max() < 0.05
    assert (x.std(0) - 0.5).abs().max() < 0.05


def test_normalisation_sees_the_training_split_alone(results: SmokeResults) -> None:
    catalog, parameters = results.catalog, results.parameters
    manifest = catalog.load("latent_manifest")
    kept = manifest[manifest["split"] == "train"]
    noise = parameters.training.noise
    alone, stored = (
        measure_normalisation(
            catalog.load("latents"), rows, parameters.encoding, noise
        ).tensors
        for rows in (kept, manifest)
    )
    assert all(torch.equal(alone[name], stored[name]) for name in stored)


def test_a_named_autoencoder_is_taken_as_it_is(results: SmokeResults) -> None:
    given, parameters = results.catalog.load("autoencoder"), results.parameters
    inputs = (results.catalog.load(name) for name in ("images", "image_manifest"))
    more = (given, None, parameters.encoding, parameters.runtime)
    assert prepare_autoencoder(*inputs, *more) is given.model


def test_reconstruction_is_reported_for_the_validation_split(
    results: SmokeResults,
) -> None:
    quality = results.catalog.load("reconstruction_quality")
    manifest = results.catalog.load("image_manifest")
    assert quality["num_images"] == (manifest["split"] == "validation").sum()
    assert 0 < quality["psnr_db"] < 100
    assert quality["exact"] is False


def test_a_blurring_autoencoder_is_told_with_what_helps(
    results: SmokeResults, caplog: pytest.LogCaptureFixture
) -> None:
    load, parameters = results.catalog.load, results.parameters
    for limit, told in ((0.0, False), (99.0, True)):
        caplog.clear()
        measure_reconstruction(
            load("images"),
            load("latents"),
            load("image_manifest"),
            load("decoder"),
            parameters.encoding.model_copy(update={"warn_below_psnr": limit}),
            parameters.runtime,
        )
        assert ("encoding.trained.num_steps" in caplog.text) == told
