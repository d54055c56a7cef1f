"""Small models, their descriptions and networks, and the noise levels of the paper."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from lct_pipeline.core.levels import ContinuousSchedule, IndexSchedule
from lct_pipeline.core.preconditioning import Denoiser
from lct_pipeline.models.denoiser import ModelDescription, build_network
from lct_pipeline.models.mlp import MLPNetwork
from lct_pipeline.parameters import Sampling

NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {"width": 16, "num_blocks": 1},
    "unet": {
        "width": 8,
        "multipliers": [1, 2],
        "num_blocks": 1,
        "attention_sizes": [4],
        "head_width": 8,
    },
    "dit": {
        "patch_size": 2,
        "depth": 1,
        "width": 16,
        "head_width": 8,
        "positions": "rotary",
        "activation": "relu",
    },
}


def described(kind: str = "mlp", **changes: Any) -> ModelDescription:
    """Return a description of a network of a kind, with changes."""
    values: dict[str, Any] = {
        "model": "consistency",
        "kind": kind,
        "sample_shape": (2, 4, 4),
        "norm": "non_scaling_layer_norm",
        "output_norm": "non_scaling_layer_norm",
        "dropout": 0.0,
        "num_classes": 0,
        "class_counts": {},
        "network": NETWORKS[kind],
        "sigma_data": 0.5,
        "boundary": 0.002,
        "sigma_min": 0.002,
        "sigma_max": 80.0,
        "rho": 7.0,
        "lowest_level": 0.0,
    }
    return ModelDescription(**values | changes)


def new_network(kind: str, **changes: Any) -> Any:
    """Return a network with fresh weights, always the same.

    Args:
        kind: Kind of network.
        changes: Of its sizes, or of its description; the norm is that before the output too.
    """
    sizes = {name: changes[name] for name in NETWORKS[kind] if name in changes}
    values = {"sample_shape": (2, 8, 8), "network": NETWORKS[kind] | sizes}
    values |= {name: changes[name] for name in changes.keys() - sizes.keys()}
    if "norm" in values:
        values = {"output_norm": values["norm"]} | values
    torch.manual_seed(0)
    return build_network(described(kind, **values))


def network(kind: str, **changes: Any) -> Any:
    """Return a network in which no weight is zero, so that every path acts."""
    return perturbed(new_network(kind, **changes))


def perturbed(module: nn.Module) -> Any:
    """Return a module with something added to each weight, always the same."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return module


def num_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def noisy_latents(size: int = 3) -> tuple[Tensor, Tensor]:
    """Return latents ``(B, 2, 8, 8)`` and c_noise ``(B,)`` over all levels."""
    x = torch.randn(size, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    return x, 250 * torch.linspace(-6, 4, size)


P_MEAN, P_STD = -1.1, 2.0
STAGE = 42_000  # steps of a stage of the paper
GRID = {"sigma_min": 0.002, "sigma_max": 80.0, "rho": 7.0}
INDEX = IndexSchedule(
    **GRID,
    s0=10,
    s1=640,
    P_mean=P_MEAN,
    P_std=P_STD,
    num_steps=7 * STAGE,
    diffusion_threshold=0.75,
)
ECT = ContinuousSchedule(
    P_mean=P_MEAN,
    P_std=P_STD,
    q=2.0,
    k=8.0,
    b=1.0,
    s0=10,
    num_stages=7,
    num_steps=7 * STAGE,
    small_noise_below=0.16975,
    highest=math.inf,
)


def random_mlp(
    shape: tuple[int, ...], *, dropout: float, num_classes: int = 0, seed: int = 0
) -> Denoiser:
    """Return a denoiser without zero weights."""
    torch.manual_seed(seed)
    network = MLPNetwork(
        shape,
        width=16,
        num_blocks=1,
        norm="non_scaling_layer_norm",
        output_norm="non_scaling_layer_norm",
        dropout=dropout,
        num_classes=num_classes,
    )
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return Denoiser(network, sigma_data=0.5, sigma_min=0.002)


def sampling(**changes: Any) -> Sampling:
    """Return how models are sampled, with changes."""
    values = {
        "intermediate_sigmas": (0.5, 2.0),
        "renoise": ("fresh", "same"),
        "guidance": 1.0,
        "diffusion": {"sampler": "heun", "num_evaluations": (3,)},
        "batch_size": 4,
        "grid_size": 3,
    }
    return Sampling.model_validate(values | changes)
