"""Every recipe under conf/ is valid, and its network fits its latents."""

from __future__ import annotations

import pytest
import torch

from conftest import ROOT
from lct_pipeline.config_loader import LctConfigLoader
from lct_pipeline.models.denoiser import build_network
from lct_pipeline.parameters import check_parameters
from lct_pipeline.pipelines.training.nodes import describe_model

RECIPES = sorted(
    path.name
    for path in (ROOT / "conf").iterdir()
    if path.is_dir() and path.name not in ("base", "local")
)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_valid_and_its_network_can_be_built(recipe: str) -> None:
    loader = LctConfigLoader(
        conf_source=str(ROOT / "conf"),
        env=recipe,
        base_env="base",
        default_run_env="local",
        merge_strategy={"parameters": "soft"},
    )
    parameters = check_parameters(loader["parameters"])
    side = (
        parameters.ingestion.image_size // 8
    )  # of SD's autoencoder and of the fitted one
    description = describe_model(parameters.training, [4, side, side])
    with torch.device("meta"):
        network = build_network(description)
        x, c_noise = torch.empty(2, 4, side, side), torch.empty(2)
        assert network(x, c_noise).shape == x.shape
    assert loader["catalog"]["checkpoints"]["path"].startswith("data/06_models/")
