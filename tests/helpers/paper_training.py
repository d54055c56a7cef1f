"""The noise levels of the paper, and a small network in which every part acts from the start."""

from __future__ import annotations

import torch

from lct_pipeline.core.levels import ContinuousSchedule, IndexSchedule
from lct_pipeline.core.preconditioning import Denoiser
from lct_pipeline.models.mlp import MLPNetwork

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
