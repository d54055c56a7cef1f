"""Pixels in the place of latents: the digits at their native 8x8, through ingest and encode."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import DataCatalog
from sklearn.datasets import load_digits

from conftest import copy_project, run_stages
from lct_pipeline.datasets.decoder import normalisation_of
from lct_pipeline.datasets.splits import indices_of
from lct_pipeline.evaluation.generator import LatentDecoder

CPU = torch.device("cpu")
PARAMETERS: dict[str, Any] = {
    "ingestion": {"image_size": 8},
    "encoding": {"autoencoder": "pixels"},
}


def catalog_of(project: Path, **parameters: Any) -> DataCatalog:
    bootstrap_project(project)
    with KedroSession.create(
        project_path=project, env="smoke", runtime_params=parameters
    ) as session:
        return session.load_context().catalog


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = copy_project(tmp_path_factory.mktemp("pixels") / "project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        for stage in ("ingest", "encode"):
            run_stages(project, stage, **PARAMETERS)
    return project


@pytest.fixture(scope="module")
def catalog(project: Path) -> DataCatalog:
    return catalog_of(project, **PARAMETERS)


@pytest.fixture(scope="module")
def training_indices(catalog: DataCatalog) -> np.ndarray:
    return indices_of(catalog.load("latent_manifest"), "train")


def test_latents_are_the_pixels_between_minus_1_and_1(catalog: DataCatalog) -> None:
    latents, every = catalog.load("latents"), np.arange(1797)
    mean, std = (latents.gather(name, every) for name in ("mean", "std"))
    digits = (load_digits().images * (255 / 16)).round()[:, None].repeat(3, axis=1)
    np.testing.assert_allclose(mean, digits / 127.5 - 1, atol=1e-6)
    assert (std == 0).all()


def test_every_image_comes_back_from_normalised_latents(catalog: DataCatalog) -> None:
    every = np.arange(1797)
    decoder = catalog.load("decoder")
    decode_latents = LatentDecoder(decoder, CPU)
    x = normalisation_of(decoder.normalisation).normalise(
        catalog.load("latents").gather("mean", every)
    )
    assert torch.equal(
        decode_latents(x), catalog.load("images").gather("images", every)
    )


def test_noise_does_not_show_where_pixels_never_change(
    catalog: DataCatalog, training_indices: np.ndarray
) -> None:
    decoder = catalog.load("decoder")
    decode_latents = LatentDecoder(decoder, CPU)
    constant = decoder.normalisation.tensors["std"] == 0
    generator = torch.Generator().manual_seed(0)
    decoded = decode_latents(80 * torch.randn(16, 3, 8, 8, generator=generator))
    images = catalog.load("images").gather("images", training_indices[:16])
    assert torch.equal(decoded[:, constant], images[:, constant])
    assert not torch.equal(decoded[:, ~constant], images[:, ~constant])


def test_exact_reconstruction_is_valid_json(project: Path) -> None:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    path = project / "data" / "08_reporting" / "reconstruction_quality.json"
    quality = json.loads(path.read_text(), parse_constant=refuse)
    assert quality["exact"] is True and quality["psnr_db"] is None
