"""What all networks have in common, and how they are built."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from describing import described
from torch import Tensor, nn

from lct_pipeline.core.preconditioning import Denoiser
from lct_pipeline.models.denoiser import build_model, build_network
from lct_pipeline.models.description import ModelDescription
from lct_pipeline.models.dit import DiTNetwork
from lct_pipeline.models.mlp import MLPNetwork
from lct_pipeline.models.unet import UNetNetwork

KINDS = {"mlp": MLPNetwork, "unet": UNetNetwork, "dit": DiTNetwork}
SIZES: dict[str, dict[str, Any]] = {
    "mlp": {"width": 16, "num_blocks": 1},
    "unet": {
        "width": 16,
        "multipliers": [1, 2],
        "num_blocks": 1,
        "attention_sizes": [4],
        "head_width": 16,
    },
    "dit": {
        "patch_size": 2,
        "depth": 2,
        "width": 16,
        "head_width": 8,
        "positions": "rotary",
        "activation": "relu",
    },
}
EMBEDDING_WIDTHS = {"mlp": 8, "unet": 64, "dit": 16}


def description(kind: str, **changes: Any) -> ModelDescription:
    values = {"sample_shape": (2, 8, 8), "output_norm": "rms_norm"}
    return described(kind, network=SIZES[kind], **values | changes)


def perturb(module: nn.Module) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))


def inputs(size: int = 4) -> tuple[Tensor, Tensor]:
    x = torch.randn(size, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    return x, torch.linspace(0.01, 3, size)


@pytest.mark.parametrize("kind", KINDS)
def test_the_description_names_the_network_and_its_boundary(kind: str) -> None:
    assert isinstance(build_network(description(kind)), KINDS[kind])
    model = build_model(description(kind, boundary=0.0), autocast=torch.bfloat16)
    assert isinstance(model, Denoiser)
    assert (model.sigma_data, model.sigma_min) == (0.5, 0.0)
    assert model.autocast == torch.bfloat16


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_network_returns_zero_for_every_class(kind: str) -> None:
    network = build_network(description(kind, num_classes=3))
    assert (network(*inputs()) == 0).all()
    assert (network(*inputs(), torch.arange(4)) == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_output_norm_is_one_of_its_own(kind: str) -> None:
    network: Any = build_network(description(kind))
    norms = [m for m in network.modules() if isinstance(m, nn.RMSNorm)]
    assert norms == [network.output_norm]


@pytest.mark.parametrize("kind", KINDS)
def test_a_built_model_is_the_identity_at_its_boundary(kind: str) -> None:
    model = build_model(description(kind))
    perturb(model)
    x, _ = inputs(2)
    low, high = (torch.full((2,), t, dtype=torch.float64) for t in (0.002, 1.0))
    assert torch.equal(model(x, low), x)
    assert not torch.allclose(model(x, high), x)


@pytest.mark.parametrize("kind", KINDS)
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


@pytest.mark.parametrize("kind", KINDS)
def test_weights_go_from_one_built_model_to_another(kind: str) -> None:
    first = build_model(description(kind), seed=1)
    perturb(first)
    second = build_model(description(kind), seed=2)
    second.load_state_dict(first.state_dict())
    x, t = inputs(1)
    assert torch.equal(first(x, t), second(x, t))


@pytest.mark.parametrize("kind", KINDS)
def test_classes_add_one_vector_each_and_one_for_none(kind: str) -> None:
    conditional = build_network(description(kind, num_classes=5)).state_dict()
    unconditional = build_network(description(kind)).state_dict()
    assert set(conditional) - set(unconditional) == {"classes.vectors.weight"}
    expected = (6, EMBEDDING_WIDTHS[kind])
    assert conditional["classes.vectors.weight"].shape == expected


@pytest.mark.parametrize("kind", KINDS)
def test_the_class_of_a_sample_acts_on_that_sample_alone(kind: str) -> None:
    network = build_network(description(kind, num_classes=3))
    perturb(network)
    x, c_noise = inputs()
    mixed = network(x, c_noise, torch.arange(4))
    for label in range(4):
        alone = network(x, c_noise, torch.full((4,), label))
        same = torch.arange(4) == label
        torch.testing.assert_close(mixed[same], alone[same], atol=1e-5, rtol=1e-4)
        difference = (mixed - alone).abs().amax((1, 2, 3))
        assert (difference[~same] > 1e-3).all()
    null = network(x, c_noise, torch.full((4,), 3))
    assert torch.equal(network(x, c_noise), null)


@pytest.mark.parametrize("kind", KINDS)
def test_a_null_vector_of_zeros_leaves_the_unconditional_network(kind: str) -> None:
    unconditional = build_network(description(kind))
    perturb(unconditional)
    conditional = build_network(description(kind, num_classes=3))
    vectors = {"classes.vectors.weight": torch.zeros(4, EMBEDDING_WIDTHS[kind])}
    conditional.load_state_dict(unconditional.state_dict() | vectors)
    assert torch.equal(conditional(*inputs()), unconditional(*inputs()))


@pytest.mark.parametrize("kind", KINDS)
def test_labels_of_an_unconditional_network_are_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="num_classes=0"):
        build_network(description(kind))(*inputs(), torch.arange(4))


@pytest.mark.parametrize("kind", KINDS)
def test_under_autocast_products_are_bfloat16_and_results_nearly_the_same(
    kind: str,
) -> None:
    wide = build_model(description(kind, num_classes=3))
    perturb(wide)
    narrow = build_model(description(kind, num_classes=3), autocast=torch.bfloat16)
    narrow.load_state_dict(wide.state_dict())
    products: set[torch.dtype] = set()
    for module in narrow.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.register_forward_hook(lambda *given: products.add(given[2].dtype))
    found = narrow(*inputs(), torch.arange(4))
    assert products == {torch.bfloat16}
    assert found.dtype == torch.float32
    found.square().sum().backward()
    for p in narrow.parameters():
        assert p.grad is not None
        assert p.grad.dtype == torch.float32
        assert p.grad.isfinite().all()
    expected = wide(*inputs(), torch.arange(4))
    assert 0 < (found - expected).norm() / expected.norm() < 0.02
