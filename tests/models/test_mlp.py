from __future__ import annotations

import pytest
import torch
from describing import new_network
from torch.nn import functional as F

from lct_pipeline.models.mlp import ResidualBlock


def test_a_new_block_is_the_identity() -> None:
    h, embedding = torch.randn(4, 16), torch.randn(4, 8)
    assert torch.equal(new_network("mlp").blocks[0](h, embedding), h)


def test_a_block_is_its_formula() -> None:
    torch.manual_seed(0)
    block = ResidualBlock(8, 4, "non_scaling_layer_norm", 0.0)
    torch.nn.init.normal_(block.project.weight)
    x, embedding = torch.randn(3, 8), torch.randn(3, 4)
    scale, shift = block.modulation(embedding).split(8, dim=1)
    variance = x.var(1, correction=0, keepdim=True)
    normed = (x - x.mean(1, True)) / (variance + 1e-5).sqrt()
    hidden = F.silu(block.expand(F.silu((1 + scale) * normed + shift)))
    expected = x + hidden @ block.project.weight.T + block.project.bias
    torch.testing.assert_close(block(x, embedding), expected)


@pytest.mark.parametrize("changed", ["norm", "output_norm"])
def test_instance_norm_of_a_vector_is_refused(changed: str) -> None:
    with pytest.raises(ValueError, match=r"^instance_norm"):
        new_network("mlp", **{changed: "instance_norm"})


def test_samples_of_one_level_share_its_modulation_and_change_nothing() -> None:
    torch.manual_seed(0)
    network = new_network("mlp")
    for p in network.parameters():
        torch.nn.init.normal_(p, std=0.3)
    x = torch.randn(6, *network.sample_shape)
    c_noise = torch.tensor([7.0, -3.0, 7.0, 2.0, -3.0, 7.0])
    alone = [network(x[i : i + 1], c_noise[i : i + 1]) for i in range(6)]
    of_each = torch.autograd.grad(torch.cat(alone).sin().sum(), network.parameters())
    together = network(x, c_noise)
    gradient = torch.autograd.grad(together.sin().sum(), network.parameters())
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradient, of_each, rtol=1e-4, atol=1e-4)
