"""Is it right? The device's losses and gradients beside the CPU's, its dropout, its rounding."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import NamedTuple, get_args

import torch
from torch import Tensor

from benchmarks.gpu.setting import Figures, Setting, tf32
from lct_pipeline.core.levels import karras_sigmas
from lct_pipeline.core.losses import paper_c
from lct_pipeline.core.objectives import Batch, Levels
from lct_pipeline.core.preconditioning import Denoiser
from lct_pipeline.core.randomness import seeded_dropout
from lct_pipeline.parameters.training import Norm
from lct_pipeline.training.trainer import build_objective

CPU = torch.device("cpu")
NORMS = ("non_scaling_layer_norm", "group_norm", "rms_norm")
NUM_SAMPLES = 8
NUM_LEVELS = (20, 160, 640)
C = 0.03  # of the robust loss


class Way(NamedTuple):
    """A precision of the network: TF32 in convolutions, and the type of autocast."""

    tf32: bool
    autocast: torch.dtype | None


WAYS = {
    "float32": Way(False, None),
    "TF32": Way(True, None),
    "bfloat16": Way(True, torch.bfloat16),
    "float16": Way(True, torch.float16),
}


class Outcome(NamedTuple):
    """Losses of some samples and the gradient by all weights, float64 on the CPU."""

    loss: Tensor
    gradient: Tensor


def against_the_cpu(setting: Setting) -> Figures:
    """Return relative errors of loss and gradient, of a small network, in each precision."""
    small = replace(setting, tiny=True)
    figures: Figures = {}
    for norm in NORMS:
        model = without_zeros(small.model(**{"network.norm": norm}))
        expected = outcome(small, model, CPU, WAYS["float32"])
        for name, way in WAYS.items():
            found = outcome(small, model, setting.device, way)
            for part in Outcome._fields:
                error = relative_error(getattr(found, part), getattr(expected, part))
                figures[f"{norm}, {name}, {part}"] = error
    return figures


def outcome(
    setting: Setting, model: Denoiser, device: torch.device, way: Way
) -> Outcome:
    """Return losses and gradient of a copy of a model, on a device, in a precision."""
    model = deepcopy(model).to(device).train()
    model.autocast = way.autocast
    objective = build_objective(setting.training(), None)
    batch, levels = (part for part in pairs(setting, device))
    with tf32(way.tf32):
        losses = objective(model, batch, levels, 0, C)
        (losses.consistency + 5 * losses.diffusion).sum().backward()
    gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    loss = losses.consistency.detach()
    return Outcome(loss.double().cpu(), torch.cat(gradients).double().cpu())


def pairs(setting: Setting, device: torch.device) -> tuple[Batch, Levels]:
    """Return latents with noise, and levels between 0.1 and 1.1 and a tenth below."""
    generator = torch.Generator().manual_seed(0)
    x = setting.latents[:NUM_SAMPLES].to(device)
    eps = torch.randn(x.shape, generator=generator).to(device)
    t = 0.1 + torch.rand(len(x), generator=generator, dtype=torch.float64)
    levels = Levels(t, 0.9 * t, t < 0.3)
    return Batch(x, eps), Levels(*(values.to(device) for values in levels))


def without_zeros(model: Denoiser) -> Denoiser:
    """Fill weights that begin as zero, behind which all others would be hidden."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            if not weight.any():
                weight.copy_(0.02 * torch.randn(weight.shape, generator=generator))
    return model


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Return |found - expected| / |expected|."""
    return float((found - expected).norm() / expected.norm())


@torch.no_grad()
def dropout_masks(setting: Setting) -> Figures:
    """Return how far two passes with one seed, and with two seeds, are apart."""
    small = replace(setting, tiny=True)
    model = without_zeros(small.model(**{"network.dropout": 0.3}))
    model.to(setting.device).train()
    batch, levels = pairs(small, setting.device)
    x_t = batch.noised(levels.t)

    def output(seed: int) -> Tensor:
        with seeded_dropout(seed, setting.device):
            return model(x_t, levels.t)

    first = output(7)
    return {
        "one seed, largest difference": float((output(7) - first).abs().max()),
        "two seeds, largest difference": float((output(8) - first).abs().max()),
    }


def norms(setting: Setting) -> Figures:
    """Return whether the gradient of each norm can be computed, or the error."""
    small = replace(setting, tiny=True)
    figures: Figures = {}
    for norm in get_args(Norm):
        model = small.model(**{"network.norm": norm})
        try:
            outcome(small, model, setting.device, WAYS["float32"])
            figures[norm] = "works"
        except RuntimeError as error:
            figures[norm] = f"fails: {str(error).splitlines()[0][:80]}"
    return figures


@torch.no_grad()
def rounding(setting: Setting) -> Figures:
    """Return errors of the temporal difference f(x_t, t) - f(x_r, r) of neighbouring levels.

    Root mean squares per element, beside that of the difference itself and the c that the paper
    compares it with.
    """
    model = without_zeros(setting.model()).to(setting.device).eval()
    batch, _ = pairs(setting, setting.device)
    figures: Figures = {}
    for num_levels in NUM_LEVELS:
        r, t = neighbours(num_levels, len(batch.x), setting)

        def difference(way: Way, t: Tensor = t, r: Tensor = r) -> Tensor:
            model.autocast = way.autocast
            with tf32(way.tf32):
                return model(batch.noised(t), t) - model(batch.noised(r), r)

        exact = difference(WAYS["float32"])
        figures[f"N = {num_levels}, difference"] = root_mean_square(exact)
        for name in ("TF32", "bfloat16", "float16"):
            error = root_mean_square(difference(WAYS[name]) - exact)
            figures[f"N = {num_levels}, {name}"] = error
        s0, dimension = setting.training().noise.s0, batch.x[0].numel()
        c = paper_c(num_levels, s0=s0, dimension=dimension)
        figures[f"N = {num_levels}, the paper's c"] = c
    return figures


def neighbours(num_levels: int, num: int, setting: Setting) -> tuple[Tensor, Tensor]:
    """Return ``num`` pairs of neighbouring levels from the middle half of the grid."""
    noise = setting.training().noise
    sigmas = karras_sigmas(
        num_levels, sigma_min=noise.sigma_min, sigma_max=noise.sigma_max, rho=noise.rho
    ).to(setting.device)
    n = torch.linspace(num_levels // 4, 3 * num_levels // 4, num).long()
    return sigmas[n], sigmas[n + 1]


def root_mean_square(values: Tensor) -> float:
    """Return the root mean square."""
    return float(values.square().mean().sqrt())
