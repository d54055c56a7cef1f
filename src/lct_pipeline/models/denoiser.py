"""The denoiser as the recipe describes it, and the description that travels with it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lct_pipeline.core.preconditioning import Denoiser
from lct_pipeline.models.dit import DiTNetwork
from lct_pipeline.models.mlp import MLPNetwork
from lct_pipeline.models.unet import UNetNetwork


def build_network(description: dict[str, Any]) -> nn.Module:
    """Return the raw network of a description.

    Args:
        description: ``kind`` (``mlp``, ``unet`` or ``dit``), ``sample_shape`` ``[C, H, W]``,
            ``norm``, ``output_norm``, ``dropout``, ``num_classes`` and, below the kind's name,
            what else that network takes.

    Raises:
        ValueError: The network does not fit the latents, or the norm the network.
    """
    kind = description["kind"]
    network = {"mlp": MLPNetwork, "unet": UNetNetwork, "dit": DiTNetwork}[kind]
    return network(
        tuple(description["sample_shape"]),
        norm=description["norm"],
        output_norm=description["output_norm"],
        dropout=description["dropout"],
        num_classes=description["num_classes"],
        **description[kind],
    )


def build_model(
    description: dict[str, Any], *, seed: int = 0, autocast: torch.dtype | None = None
) -> Denoiser:
    """Return a denoiser with fresh weights.

    Args:
        description: As for :func:`build_network`, with ``sigma_data`` and ``boundary``, the level
            at which the model is the identity.
        seed: Seed of the initial weights.
        autocast: Type of the network's matrix products; None leaves them as they are.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(description)
    return Denoiser(
        network,
        sigma_data=description["sigma_data"],
        sigma_min=description["boundary"],
        autocast=autocast,
    )
