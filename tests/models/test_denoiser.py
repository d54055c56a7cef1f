"""What all networks have in common, how they are built, and what a checkpoint says of them."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
import torch
from describing import (
    NETWORKS,
    described,
    network,
    new_network,
    noisy_latents,
    perturbed,
)
from torch import nn

from lct_pipeline.core.preconditioning import Denoiser
from lct_pipeline.errors import DataError
from lct_pipeline.models.denoiser import ModelDescription, build_model
from lct_pipeline.models.dit import TOKEN_NORMS
from lct_pipeline.models.layers import NormName

EMBEDDING_WIDTHS = {"mlp": 8, "unet": 32, "dit": 16}
OF_A_VECTOR = [name for name in get_args(NormName) if "instance" not in name]
NORMS = {"mlp": OF_A_VECTOR, "unet": get_args(NormName), "dit": TOKEN_NORMS}
WITH_NORMS = [(kind, norm) for kind, norms in NORMS.items() for norm in norms]
every_kind = pytest.mark.parametrize("kind", NETWORKS)


@every_kind
def test_a_model_is_a_denoiser_with_the_boundary_of_its_description(kind: str) -> None:
    model = build_model(described(kind, boundary=0.0), autocast=torch.bfloat16)
    assert isinstance(model, Denoiser)
    assert (model.sigma_data, model.sigma_min) == (0.5, 0.0)
    assert model.autocast == torch.bfloat16


@every_kind
def test_a_model_is_the_identity_at_its_boundary(kind: str) -> None:
    model = perturbed(build_model(described(kind, sample_shape=(2, 8, 8))))
    x, _ = noisy_latents(2)
    low, high = (torch.full((2,), t, dtype=torch.float64) for t in (0.002, 1.0))
    assert torch.equal(model(x, low), x)
    assert not torch.allclose(model(x, high), x)


@every_kind
def test_the_seed_alone_decides_the_weights(kind: str) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = build_model(described(kind), seed=4).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    second = build_model(described(kind), seed=4).state_dict()
    other = build_model(described(kind), seed=5).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@every_kind
def test_a_new_network_returns_zero_for_every_class(kind: str) -> None:
    net = new_network(kind, num_classes=3)
    assert (net(*noisy_latents()) == 0).all()
    assert (net(*noisy_latents(), torch.arange(3)) == 0).all()


@every_kind
def test_the_output_norm_is_one_of_its_own(kind: str) -> None:
    net = new_network(kind, output_norm="rms_norm")
    norms = [m for m in net.modules() if isinstance(m, nn.RMSNorm)]
    assert norms == [net.output_norm]


@pytest.mark.parametrize(("kind", "norm"), WITH_NORMS)
def test_output_has_the_shape_of_the_latents_and_every_weight_a_gradient(
    kind: str, norm: str
) -> None:
    net = network(kind, norm=norm, num_classes=2)
    out = net(*noisy_latents(), torch.arange(3))
    assert out.shape == (3, 2, 8, 8)
    out.square().sum().backward()
    sizes = {name: p.grad.abs().max().item() for name, p in net.named_parameters()}
    # an instance norm takes away what the bias before it adds to a channel
    taken = {n for n in sizes if "instance" in norm and n.endswith("conv0.bias")}
    assert all(sizes[name] < 1e-3 * max(sizes.values()) for name in taken)
    assert all(size > 0 for name, size in sizes.items() if name not in taken)


@every_kind
def test_samples_do_not_influence_each_other(kind: str) -> None:
    net = network(kind)
    x, c_noise = noisy_latents()
    alone = [net(x[j : j + 1], c_noise[j : j + 1]) for j in range(3)]
    torch.testing.assert_close(net(x, c_noise), torch.cat(alone), atol=1e-4, rtol=1e-4)


@every_kind
def test_output_depends_on_the_level_and_on_every_position(kind: str) -> None:
    net = network(kind)
    x, c_noise = noisy_latents(1)
    assert not torch.allclose(net(x, c_noise), net(x, c_noise + 100))
    changed = x.clone()
    changed[0, 0, 7, 7] += 1
    assert ((net(changed, c_noise) - net(x, c_noise))[0].abs().amax(0) > 0).all()


@every_kind
def test_dropout_acts_in_training_alone(kind: str) -> None:
    net, inputs = network(kind, dropout=0.5), noisy_latents()
    assert not torch.equal(net.train()(*inputs), net(*inputs))
    assert torch.equal(net.eval()(*inputs), network(kind)(*inputs))


@every_kind
def test_classes_add_one_vector_each_and_one_for_none(kind: str) -> None:
    conditional = new_network(kind, num_classes=5).state_dict()
    added = set(conditional) - set(new_network(kind).state_dict())
    assert added == {"classes.vectors.weight"}
    expected = (6, EMBEDDING_WIDTHS[kind])
    assert conditional["classes.vectors.weight"].shape == expected


@every_kind
def test_the_class_of_a_sample_acts_on_that_sample_alone(kind: str) -> None:
    net = network(kind, num_classes=3)
    x, c_noise = noisy_latents(4)
    mixed = net(x, c_noise, torch.arange(4))
    for label in range(4):
        alone = net(x, c_noise, torch.full((4,), label))
        same = torch.arange(4) == label
        torch.testing.assert_close(mixed[same], alone[same], atol=1e-5, rtol=1e-4)
        difference = (mixed - alone).abs().amax((1, 2, 3))
        assert (difference[~same] > 1e-3).all()
    null = net(x, c_noise, torch.full((4,), 3))
    assert torch.equal(net(x, c_noise), null)


@every_kind
def test_a_null_vector_of_zeros_leaves_the_unconditional_network(kind: str) -> None:
    unconditional, conditional = network(kind), new_network(kind, num_classes=3)
    vectors = {"classes.vectors.weight": torch.zeros(4, EMBEDDING_WIDTHS[kind])}
    conditional.load_state_dict(unconditional.state_dict() | vectors)
    inputs = noisy_latents()
    assert torch.equal(conditional(*inputs), unconditional(*inputs))


@every_kind
def test_under_autocast_products_are_bfloat16_and_results_nearly_the_same(
    kind: str,
) -> None:
    description = described(kind, sample_shape=(2, 8, 8), num_classes=3)
    wide = perturbed(build_model(description))
    narrow = perturbed(build_model(description, autocast=torch.bfloat16))
    products: set[torch.dtype] = set()
    for module in narrow.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.register_forward_hook(lambda *given: products.add(given[2].dtype))
    inputs = noisy_latents(4)[0], torch.linspace(0.01, 3, 4), torch.arange(4)
    found, expected = narrow(*inputs), wide(*inputs)
    assert products == {torch.bfloat16}
    assert found.dtype == torch.float32
    assert 0 < (found - expected).norm() / expected.norm() < 0.02
    found.square().sum().backward()
    for p in narrow.parameters():
        assert p.grad.dtype == torch.float32
        assert p.grad.isfinite().all()


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("changes", [{}, {"class_counts": {"b": 1, "a": 2}}], ids=str)
def test_a_description_comes_back_from_its_json(
    kind: str, changes: dict[str, Any]
) -> None:
    description = described(kind, **changes)
    said = json.loads(json.dumps(description.as_json()))
    found = ModelDescription.from_json(said)
    assert found == description
    assert list(found.class_counts) == list(description.class_counts)


def test_the_json_is_the_one_that_checkpoints_carry() -> None:
    assert json.dumps(described(class_counts={"b": 1, "a": 2}).as_json()) == (
        '{"model": "consistency", "kind": "mlp", "sample_shape": [2, 4, 4], '
        '"norm": "non_scaling_layer_norm", "output_norm": "non_scaling_layer_norm", '
        '"dropout": 0.0, "num_classes": 0, "class_counts": {"b": 1, "a": 2}, '
        '"mlp": {"width": 16, "num_blocks": 1}, "sigma_data": 0.5, "boundary": 0.002, '
        '"sigma_min": 0.002, "sigma_max": 80.0, "rho": 7.0, "lowest_level": 0.0}'
    )


@pytest.mark.parametrize("key", ["kind", "mlp", "sigma_max", "lowest_level"])
def test_a_missing_key_is_named(key: str) -> None:
    said = described().as_json()
    del said[key]
    with pytest.raises(DataError, match=f"a model lacks the key '{key}': another"):
        ModelDescription.from_json(said)


def test_an_unknown_key_is_named() -> None:
    said = {**described().as_json(), "unet": {}}
    with pytest.raises(DataError, match="a model has the unknown key 'unet': "):
        ModelDescription.from_json(said)
