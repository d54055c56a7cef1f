"""The denoiser as the recipe describes it."""

from __future__ import annotations

import torch
from torch import nn

from lct_pipeline.core.preconditioning import Denoiser
from lct_pipeline.models.description import ModelDescription
from lct_pipeline.models.dit import DiTNetwork
from lct_pipeline.models.mlp import MLPNetwork
from lct_pipeline.models.unet import UNetNetwork


def build_network(description: ModelDescription) -> nn.Module:
    """Return the raw network of a description.

    Raises:
        ValueError: The network does not fit the latents, or the norm the network.
    """
    kinds = {"mlp": MLPNetwork, "unet": UNetNetwork, "dit": DiTNetwork}
    return kinds[description.kind](
        description.sample_shape,
        norm=description.norm,
        output_norm=description.output_norm,
        dropout=description.dropout,
        num_classes=description.num_classes,
        **description.network,
    )


def build_model(
    description: ModelDescription, *, seed: int = 0, autocast: torch.dtype | None = None
) -> Denoiser:
    """Return a denoiser with fresh weights.

    Args:
        description: Of its network and its boundary condition.
        seed: Seed of the initial weights.
        autocast: Type of the network's matrix products; None leaves them as they are.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(description)
    return Denoiser(
        network,
        sigma_data=description.sigma_data,
        sigma_min=description.boundary,
        autocast=autocast,
    )
