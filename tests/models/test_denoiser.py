from __future__ import annotations

from typing import Any

import pytest
import torch

from lct_pipeline.core.preconditioning import Denoiser
from lct_pipeline.models.denoiser import build_model, build_network
from lct_pipeline.models.mlp import MLPNetwork
from lct_pipeline.models.unet import UNetNetwork


def description(kind: str) -> dict[str, Any]:
    sizes: dict[str, dict[str, Any]] = {
        "mlp": {"width": 16, "num_blocks": 1},
        "unet": {
            "width": 16,
            "multipliers": [1, 2],
            "num_blocks": 1,
            "attention_sizes": [4],
            "head_width": 16,
        },
    }
    return {
        "kind": kind,
        "sample_shape": [2, 8, 8],
        "norm": "non_scaling_layer_norm",
        "dropout": 0.0,
        kind: sizes[kind],
        "sigma_data": 0.5,
        "sigma_min": 0.002,
        "sigma_max": 80.0,
    }


@pytest.mark.parametrize(
    ("kind", "network"), [("mlp", MLPNetwork), ("unet", UNetNetwork)]
)
def test_the_description_names_the_network(kind: str, network: type) -> None:
    assert isinstance(build_network(description(kind)), network)
    model = build_model(description(kind))
    assert isinstance(model, Denoiser)
    assert (model.sigma_data, model.sigma_min) == (0.5, 0.002)


@pytest.mark.parametrize("kind", ["mlp", "unet"])
def test_a_built_model_is_the_identity_at_the_smallest_level(kind: str) -> None:
    model = build_model(description(kind))
    torch.nn.init.normal_(model.network.output.weight)
    x = torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    low, high = (torch.full((2,), t, dtype=torch.float64) for t in (0.002, 1.0))
    assert torch.equal(model(x, low), x)
    assert not torch.allclose(model(x, high), x)


@pytest.mark.parametrize("kind", ["mlp", "unet"])
def test_the_seed_alone_decides_the_weights(kind: str) -> None:
    torch.manual_seed(1)
    first = build_model(description(kind), seed=4).state_dict()
    torch.manual_seed(2)
    second = build_model(description(kind), seed=4).state_dict()
    other = build_model(description(kind), seed=5).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_building_leaves_the_global_generator_as_it_was() -> None:
    before = torch.get_rng_state()
    build_model(description("mlp"))
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_go_from_one_built_model_to_another() -> None:
    first = build_model(description("unet"), seed=1)
    second = build_model(description("unet"), seed=2)
    second.load_state_dict(first.state_dict())
    x = torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0.7], dtype=torch.float64)
    assert torch.equal(first(x, t), second(x, t))
