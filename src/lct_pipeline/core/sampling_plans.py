"""How a model generates with a number of network evaluations: one record, one dispatch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from lct_pipeline.core.preconditioning import Model
from lct_pipeline.core.samplers import (
    Renoise,
    sample_dpm_solver,
    sample_heun,
    sample_multistep,
)
from lct_pipeline.core.schedules import karras_sigmas


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
