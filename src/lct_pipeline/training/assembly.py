"""From parameters to a trainer: levels, objective, network, optimiser, averages."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from lct_pipeline.core.ema.bank import EMABank
from lct_pipeline.core.levels import (
    ContinuousSchedule,
    DiffusionSchedule,
    IndexSchedule,
    LevelSchedule,
    TruncatedSchedule,
    small_noise_level,
)
from lct_pipeline.core.objectives import (
    ConsistencyDistillation,
    ConsistencyTraining,
    DiffusionTraining,
    Objective,
    RobustLoss,
    TruncatedTraining,
)
from lct_pipeline.core.preconditioning import Denoiser
from lct_pipeline.core.ranks import Ranks
from lct_pipeline.core.training_loop import OptimizerSettings, Trainer
from lct_pipeline.errors import ParameterError
from lct_pipeline.models.denoiser import build_model
from lct_pipeline.parameters.training import Training


def level_schedule(parameters: Training) -> LevelSchedule:
    """Return the schedule of noise levels that the parameters describe."""
    noise, objective = parameters.noise, parameters.objective
    if objective.kind == "diffusion":
        return DiffusionSchedule(noise.P_mean, noise.P_std)
    pairs = (
        _continuous(parameters)
        if noise.schedule == "continuous"
        else _index(parameters)
    )
    if objective.kind == "truncated":
        truncation = objective.truncation
        return TruncatedSchedule(
            pairs, truncation.level, truncation.boundary_probability
        )
    return pairs


def _index(parameters: Training) -> IndexSchedule:
    noise = parameters.noise.model_dump(
        exclude={"schedule", "continuous", "sigma_data"}
    )
    return IndexSchedule(
        **noise,
        num_steps=parameters.num_steps,
        diffusion_threshold=parameters.objective.diffusion_threshold,
    )


def _continuous(parameters: Training) -> ContinuousSchedule:
    noise = parameters.noise
    small_noise_below = small_noise_level(
        parameters.objective.diffusion_threshold,
        sigma_min=noise.sigma_min,
        sigma_max=noise.sigma_max,
        rho=noise.rho,
    )
    return ContinuousSchedule(
        P_mean=noise.P_mean,
        P_std=noise.P_std,
        s0=noise.s0,
        num_steps=parameters.num_steps,
        small_noise_below=small_noise_below,
        **noise.continuous.model_dump(),
    )


def build_objective(parameters: Training, first_stage: Denoiser | None) -> Objective:
    """Return the objective that the parameters describe.

    Args:
        parameters: The training's parameters.
        first_stage: The frozen teacher of distillation or first stage of truncated training.
    """
    chosen, sigma_data = parameters.objective, parameters.noise.sigma_data
    robust = RobustLoss(chosen.loss, chosen.residual)
    if chosen.kind == "consistency":
        return ConsistencyTraining(robust, sigma_data)
    if chosen.kind == "diffusion":
        return DiffusionTraining(sigma_data)
    assert first_stage is not None  # these two kinds need one, which is checked before
    if chosen.kind == "distillation":
        return ConsistencyDistillation(robust, sigma_data, first_stage, chosen.solver)
    truncation = chosen.truncation
    return TruncatedTraining(
        robust,
        sigma_data,
        first_stage,
        truncation.level,
        truncation.boundary_weight,
    )


def build_trainer(
    description: dict[str, Any],
    parameters: Training,
    first_stage: Denoiser | None,
    ranks: Ranks,
    *,
    gradient_accumulation: int,
    compiled: bool,
) -> Trainer:
    """Return a trainer at step 0, its network that of the first stage where there is one.

    Raises:
        ParameterError: The network does not fit the latents.
    """
    dtype = torch.bfloat16 if parameters.precision == "bfloat16" else None
    try:
        model = build_model(description, seed=parameters.seed, autocast=dtype)
    except ValueError as error:
        raise ParameterError(
            f"training.network does not fit the latents: {error}"
        ) from error
    if first_stage is not None:
        model.network.load_state_dict(first_stage.network.state_dict())
    model.to(ranks.device).train()
    if compiled:
        compile_network(model.network, parameters.network.dropout)
    return Trainer(
        model,
        objective=build_objective(parameters, first_stage),
        diffusion_weight=parameters.objective.diffusion_weight,
        scale=parameters.objective.c,
        s0=parameters.noise.s0,
        num_levels=level_schedule(parameters).num_levels,
        optimizer=OptimizerSettings(**parameters.optimizer.model_dump()),
        ema=partial(EMABank, rates=parameters.ema.rates, widths=parameters.ema.widths),
        gradient_accumulation=gradient_accumulation,
        seed=parameters.seed,
        ranks=ranks,
    )


def compile_network(network: nn.Module, dropout: float) -> None:
    """Compile in place: names of weights stay; dropout draws what it draws uncompiled."""
    options: dict[str, Any] = {"fallback_random": True} if dropout > 0 else {}
    network.compile(options=options)
