"""Sampling: multistep from a consistency model; EDM's Heun and DPM-Solver++ from a denoiser.

Sources: Song et al. 2023 (consistency models), algorithm 1; Karras et al. 2022 (EDM), algorithm 1;
Lu et al. 2022 (DPM-Solver++), algorithm 2; Ho & Salimans 2022 (classifier-free guidance). A
:class:`SamplingPlan` says which, with how many evaluations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from lct_pipeline.core.coupling import optimal_transport_coupling
from lct_pipeline.core.levels import karras_sigmas
from lct_pipeline.core.preconditioning import Model, at_level

if TYPE_CHECKING:
    from diffusers import EDMDPMSolverMultistepScheduler


Renoise = Literal["fresh", "same", "coupled"]


def guided(model: Model, weight: float, *, null_class: int) -> Model:
    """Return a conditional model with classifier-free guidance.

    D = D_null + weight (D_label - D_null), from one batch of 2B. At weight 1 that is the model
    itself, which is returned as it is.

    Args:
        model: Conditional model that was also trained on ``null_class``.
        weight: 0 ignores the labels, 1 is no guidance, above 1 exaggerates the class.
        null_class: Class that stands for no label.
    """
    if weight == 1:
        return model

    def with_guidance(x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        both = torch.cat([labels, torch.full_like(labels, null_class)])
        D = model(torch.cat([x_t, x_t]), t.repeat(2), both)
        D_label, D_null = D.unflatten(0, (2, -1))
        return D_null + weight * (D_label - D_null)

    return with_guidance


@torch.no_grad()
def sample_multistep(
    model: Model,
    noises: Sequence[Tensor],
    sigmas: Sequence[float],
    *,
    sigma_min: float,
    renoise: Renoise = "fresh",
    labels: Tensor | None = None,
) -> Tensor:
    """Generate latents from a consistency model with as many evaluations as there are levels.

    The first evaluation starts from pure noise at ``sigmas[0]``; each further one adds noise of
    variance sigma^2 - sigma_min^2 to the result and denoises again. Which noise, ``renoise`` says:

    - ``fresh``: independent of the result (Song et al. 2023, algorithm 1);
    - ``same``: that of the first evaluation. A model trained with an optimal-transport coupling has
      seen pairs that belong together, and the result belongs to the noise it was made of;
    - ``coupled``: fresh noise in the order of the training's coupling with the results. A sample
      then depends on the batch it is generated in, whose size should be that of training.

    Args:
        model: The consistency function f(x_t, t).
        noises: Unit noise for each level, each ``(B, C, H, W)``; ``same`` uses the first alone.
        sigmas: Decreasing levels, the first being sigma_max.
        sigma_min: Level of the model's output.
        renoise: Noise of the second and later evaluations.
        labels: Classes, ``(B,)``, of a conditional model.

    Returns:
        Latents of shape ``(B, C, H, W)``.
    """
    x = sigmas[0] * noises[0]
    for index, (sigma, fresh) in enumerate(zip(sigmas, noises, strict=True)):
        if index > 0:
            eps = noises[0] if renoise == "same" else fresh
            if renoise == "coupled":
                eps = optimal_transport_coupling(x, fresh, labels)
            x = x + (sigma**2 - sigma_min**2) ** 0.5 * eps
        x = _evaluate(model, x, sigma, labels)
    return x


@torch.no_grad()
def sample_heun(
    model: Model,
    eps: Tensor,
    sigmas: Sequence[float],
    *,
    labels: Tensor | None = None,
) -> Tensor:
    """Solve dx/dsigma = (x - D(x; sigma)) / sigma with Heun's method (EDM, algorithm 1).

    The last step, to level 0, is Euler's: ``2 * len(sigmas) - 1`` evaluations.

    Args:
        model: The denoiser D(x; sigma).
        eps: Unit noise, ``(B, C, H, W)``.
        sigmas: Decreasing levels > 0, the first being sigma_max; 0 follows the last.
        labels: Classes, ``(B,)``, of a conditional model.

    Returns:
        Latents of shape ``(B, C, H, W)``.
    """
    x = sigmas[0] * eps
    for sigma, next_sigma in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
        slope = (x - _evaluate(model, x, sigma, labels)) / sigma
        euler = x + (next_sigma - sigma) * slope
        if next_sigma > 0:
            end_slope = (
                euler - _evaluate(model, euler, next_sigma, labels)
            ) / next_sigma
            x = x + (next_sigma - sigma) * (slope + end_slope) / 2
        else:
            x = euler
    return x


@torch.no_grad()
def sample_dpm_solver(
    model: Model,
    eps: Tensor,
    num_evaluations: int,
    *,
    sigma_min: float,
    sigma_max: float,
    rho: float,
    labels: Tensor | None = None,
) -> Tensor:
    """Solve the same equation with DPM-Solver++(2M) (Lu et al. 2022, algorithm 2).

    The levels are the Karras grid of ``num_evaluations`` levels from ``sigma_max`` to
    ``sigma_min``, and 0 after it. The first step and the last are of first order.

    Args:
        model: The denoiser D(x; sigma).
        eps: Unit noise, ``(B, C, H, W)``.
        num_evaluations: Number of levels and of evaluations, >= 1.
        sigma_min: Smallest level at which the model is evaluated, > 0.
        sigma_max: Largest level.
        rho: Exponent of the grid's spacing.
        labels: Classes, ``(B,)``, of a conditional model.

    Returns:
        Latents of shape ``(B, C, H, W)``.
    """
    scheduler = _dpm_solver(sigma_min=sigma_min, sigma_max=sigma_max, rho=rho)
    scheduler.set_timesteps(num_evaluations)
    x = sigma_max * eps
    for sigma, timestep in zip(scheduler.sigmas[:-1], scheduler.timesteps, strict=True):
        D_x = _evaluate(model, x, float(sigma), labels)
        x = scheduler.step(D_x, timestep, x).prev_sample
    return x


def _dpm_solver(**grid: float) -> EDMDPMSolverMultistepScheduler:
    """Return diffusers' solver for the Karras grid, fed with the denoised D_x.

    Its own conversion takes the raw network's F_x and makes D_x of it by EDM's preconditioning,
    which our models have done already.
    """
    from diffusers import EDMDPMSolverMultistepScheduler

    class DenoisedInput(EDMDPMSolverMultistepScheduler):
        def convert_model_output(self, model_output: Tensor, sample: Tensor) -> Tensor:
            return model_output

    return DenoisedInput(**grid, solver_order=2, final_sigmas_type="zero")


def _evaluate(model: Model, x: Tensor, sigma: float, labels: Tensor | None) -> Tensor:
    """Return the model's output for a batch that is at one level."""
    t = at_level(x, sigma)
    return model(x, t) if labels is None else model(x, t, labels)


@dataclass(frozen=True)
class SamplingPlan:
    """How a model generates with a number of network evaluations (NFE).

    A consistency model has one level for each evaluation, the first being sigma_max; a diffusion
    model the name of its solver.
    """

    num_evaluations: int
    sigmas: tuple[float, ...] = ()
    renoise: Renoise = "fresh"
    solver: str | None = None


def sample_by_plan(
    model: Model,
    noises: Sequence[Tensor],
    plan: SamplingPlan,
    *,
    boundary: float,
    sigma_min: float,
    sigma_max: float,
    rho: float,
    labels: Tensor | None = None,
) -> Tensor:
    """Return normalised latents ``(B, C, H, W)``.

    Args:
        model: Consistency function or denoiser.
        noises: Unit noise for each level of the plan, each ``(B, C, H, W)``; a solver uses the
            first alone.
        plan: How.
        boundary: Level at which a consistency model is the identity.
        sigma_min: Smallest level of a solver's grid.
        sigma_max: Largest level of it.
        rho: Exponent of its spacing.
        labels: Classes, ``(B,)``, of a conditional model.
    """
    grid = {"sigma_min": sigma_min, "sigma_max": sigma_max, "rho": rho}
    if plan.solver == "dpm_solver":
        return sample_dpm_solver(
            model, noises[0], plan.num_evaluations, labels=labels, **grid
        )
    if plan.solver == "heun":
        levels = karras_sigmas((plan.num_evaluations - 1) // 2, **grid)
        return sample_heun(model, noises[0], levels.flip(0).tolist(), labels=labels)
    return sample_multistep(
        model,
        noises,
        plan.sigmas,
        sigma_min=boundary,
        renoise=plan.renoise,
        labels=labels,
    )
