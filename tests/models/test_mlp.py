from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lct_pipeline.models.mlp import MLPNetwork, ResidualBlock
from lct_pipeline.models.norms import NormName

SHAPE = (2, 3, 3)


NAMES = [name for name in get_args(NormName) if "instance" not in name]


def new_network(
    norm: NormName = "non_scaling_layer_norm", **changes: Any
) -> MLPNetwork:
    arguments = {"norm": norm, "output_norm": norm, "dropout": 0.0, "num_classes": 0}
    torch.manual_seed(0)
    return MLPNetwork(SHAPE, width=32, num_blocks=2, **(arguments | changes))


def network(norm: NormName = "non_scaling_layer_norm", **changes: Any) -> MLPNetwork:
    """A network in which no weight is zero, so that every path acts."""
    net = new_network(norm, **changes)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return net


def inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, *SHAPE, generator=generator)
    return x, 250 * torch.linspace(-6, 4, 5)


def test_a_new_network_returns_zero_and_its_blocks_the_identity() -> None:
    new = new_network()
    assert (new(*inputs()) == 0).all()
    h, embedding = torch.randn(4, 32), torch.randn(4, 16)
    assert torch.equal(new.blocks[0](h, embedding), h)


@pytest.mark.parametrize("norm", NAMES)
def test_output_has_the_shape_of_the_latents_and_every_weight_a_gradient(
    norm: NormName,
) -> None:
    net = network(norm)
    out = net(*inputs())
    assert out.shape == (5, *SHAPE)
    out.square().sum().backward()
    for name, p in net.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().sum() > 0, name


def test_samples_do_not_influence_each_other() -> None:
    net = network()
    x, c_noise = inputs()
    whole = net(x, c_noise)
    for j in range(5):
        alone = net(x[j : j + 1], c_noise[j : j + 1])
        torch.testing.assert_close(whole[j : j + 1], alone)


def test_output_depends_on_the_level() -> None:
    net = network()
    x, c_noise = inputs()
    assert not torch.allclose(net(x, c_noise), net(x, c_noise + 100))


def test_a_block_is_its_formula() -> None:
    torch.manual_seed(0)
    block = ResidualBlock(8, 4, "non_scaling_layer_norm", 0.0)
    torch.nn.init.normal_(block.project.weight)
    x, embedding = torch.randn(3, 8), torch.randn(3, 4)
    scale, shift = block.modulation(embedding).split(8, dim=1)
    normed = (x - x.mean(1, True)) / (
        x.var(1, correction=0, keepdim=True) + 1e-5
    ).sqrt()
    hidden = F.silu(block.expand(F.silu((1 + scale) * normed + shift)))
    expected = x + hidden @ block.project.weight.T + block.project.bias
    torch.testing.assert_close(block(x, embedding), expected)


def test_dropout_acts_in_training_alone() -> None:
    net = network(dropout=0.5)
    assert not torch.equal(net.train()(*inputs()), net(*inputs()))
    assert torch.equal(net.eval()(*inputs()), net(*inputs()))
    torch.testing.assert_close(net(*inputs()), network()(*inputs()))


@pytest.mark.parametrize("changed", ["norm", "output_norm"])
def test_instance_norm_of_a_vector_is_refused(changed: str) -> None:
    with pytest.raises(ValueError, match=r"^instance_norm"):
        new_network(**{changed: "instance_norm"})
