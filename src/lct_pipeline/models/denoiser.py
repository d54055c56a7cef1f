"""The consistency model as the recipe describes it, and the description that travels with it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lct_pipeline.core.preconditioning import Denoiser
from lct_pipeline.models.mlp import MLPNetwork
from lct_pipeline.models.unet import UNetNetwork


def build_network(description: dict[str, Any]) -> nn.Module:
    """Return the raw network of a description.

    Args:
        description: ``kind`` (``mlp`` or ``unet``), ``sample_shape`` ``[C, H, W]``, ``norm``,
            ``dropout`` and, below the kind's name, what else that network takes.
    """
    kind = description["kind"]
    network = {"mlp": MLPNetwork, "unet": UNetNetwork}[kind]
    return network(
        tuple(description["sample_shape"]),
        norm=description["norm"],
        dropout=description["dropout"],
        **description[kind],
    )


def build_model(description: dict[str, Any], *, seed: int = 0) -> Denoiser:
    """Return a consistency model with fresh weights.

    Args:
        description: As for :func:`build_network`, with ``sigma_data`` and ``sigma_min``.
        seed: Seed of the initial weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(description)
    return Denoiser(
        network,
        sigma_data=description["sigma_data"],
        sigma_min=description["sigma_min"],
    )
