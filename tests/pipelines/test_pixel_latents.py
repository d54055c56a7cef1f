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
from sklearn.datasets import load_digits

from conftest import copy_project, run_stages
from lct_pipeline.datasets.decoder import normalisation_of
from lct_pipeline.datasets.splits import indices_of
from lct_pipeline.evaluation.generator import LatentDecoder

PARAMETERS: dict[str, Any] = {
    "ingestion": {"image_size": 8},
    "encoding": {"autoencoder": "pixels"},
}


def test_digits_become_latents_and_come_back_pixel_by_pixel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = copy_project(tmp_path / "project")
    monkeypatch.chdir(project)
    for stage in ("ingest", "encode"):
        run_stages(project, stage, **PARAMETERS)
    bootstrap_project(project)
    with KedroSession.create(
        project_path=project, env="smoke", runtime_params=PARAMETERS
    ) as session:
        load = session.load_context().catalog.load
    latents, images, every = load("latents"), load("images"), np.arange(1797)
    mean, std = (latents.gather(name, every) for name in ("mean", "std"))
    digits = (load_digits().images * (255 / 16)).round()[:, None].repeat(3, axis=1)
    np.testing.assert_allclose(mean, digits / 127.5 - 1, atol=1e-6)
    assert (std == 0).all()

    decoder = load("decoder")
    decode = LatentDecoder(decoder, torch.device("cpu"))
    x = normalisation_of(decoder.normalisation).normalise(mean)
    assert torch.equal(decode(x), images.gather("images", every))

    constant = decoder.normalisation.tensors["std"] == 0  # noise does not show there
    noise = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    training = indices_of(load("latent_manifest"), "train")[:16]
    expected, found = images.gather("images", training), decode(80 * noise)
    assert torch.equal(found[:, constant], expected[:, constant])
    assert not torch.equal(found[:, ~constant], expected[:, ~constant])

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    path = project / "data" / "08_reporting" / "reconstruction_quality.json"
    quality = json.loads(path.read_text(), parse_constant=refuse)
    assert quality["exact"] is True and quality["psnr_db"] is None
