"""From parameters to a trainer: its noise levels, its objective and its network."""

from __future__ import annotations

import math
import os
from typing import Any

import torch
from torch import nn

from lct_pipeline.core.batches import Ranks
from lct_pipeline.core.ema import EMABank
from lct_pipeline.core.flat_weights import FlatWeights
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
    Solver,
    TruncatedTraining,
)
from lct_pipeline.core.optimizer import OptimizerSettings
from lct_pipeline.core.preconditioning import Denoiser
from lct_pipeline.core.training_loop import Trainer
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import ParameterError
from lct_pipeline.given_files import private_folder
from lct_pipeline.models.denoiser import ModelDescription, build_model
from lct_pipeline.parameters import Training

BOUNDARY_SHARE = 0.25  # of truncated training's samples, at t' itself (TCM)
ECT_SLOPE = {"k": 8.0, "b": 1.0}  # ECT's for CIFAR-10


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
        return TruncatedSchedule(pairs, objective.truncation.level, BOUNDARY_SHARE)
    return pairs


def first_num_levels(parameters: Training) -> int:
    """Return the N of the stage that has iCT's constant c.

    There is none in truncated training, which goes on from a run that had it: 0.
    """
    return 0 if parameters.objective.kind == "truncated" else parameters.noise.s0


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
    noise, is_truncated = parameters.noise, parameters.objective.kind == "truncated"
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
        q=noise.continuous.q,
        num_stages=noise.continuous.num_stages,
        highest=noise.sigma_max if is_truncated else math.inf,
        **ECT_SLOPE,
    )


SOLVER: Solver = "heun"  # a step of the teacher; better than Euler's (Song et al. 2023)
BOUNDARY_WEIGHT = 0.1  # of the mean over truncated training's boundary (TCM)


def build_objective(parameters: Training, init_from: Denoiser | None) -> Objective:
    """Return the objective that the parameters describe.

    Args:
        parameters: The training's parameters.
        init_from: The frozen teacher of distillation or first stage of truncated training.
    """
    chosen, sigma_data = parameters.objective, parameters.noise.sigma_data
    robust = RobustLoss(chosen.loss, chosen.residual)
    if chosen.kind == "consistency":
        return ConsistencyTraining(robust, sigma_data)
    if chosen.kind == "diffusion":
        return DiffusionTraining(sigma_data)
    assert init_from is not None  # these two kinds need one, which is checked before
    if chosen.kind == "distillation":
        return ConsistencyDistillation(robust, sigma_data, init_from, SOLVER)
    return TruncatedTraining(
        robust,
        sigma_data,
        init_from,
        chosen.truncation.level,
        BOUNDARY_WEIGHT,
        int(BOUNDARY_SHARE * parameters.batch_size) / parameters.batch_size,
    )


def build_trainer(
    description: ModelDescription,
    parameters: Training,
    init_from: Denoiser | None,
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
    if init_from is not None:
        model.network.load_state_dict(init_from.network.state_dict())
    model.to(ranks.device).train()
    if compiled:
        compile_network(model.network, parameters.network.dropout)
    return Trainer(
        model,
        objective=build_objective(parameters, init_from),
        diffusion_weight=parameters.objective.diffusion_weight,
        scale=parameters.objective.c_schedule,
        s0=first_num_levels(parameters),
        num_levels=level_schedule(parameters).num_levels,
        settings=OptimizerSettings(**parameters.optimizer.model_dump()),
        ema=EMABank(
            FlatWeights(model.network),
            rates=parameters.ema.rates,
            widths=parameters.ema.sigma_rels,
        ),
        gradient_accumulation=gradient_accumulation,
        seed=parameters.seed,
        ranks=ranks,
    )


def compile_network(network: nn.Module, dropout: float) -> None:
    """Compile in place: names of weights stay; dropout draws what it draws uncompiled.

    Compiled code is kept in a private folder: torch's own is in the system's temporary one, under a
    name that every user can make first.

    Raises:
        DataError: There can be no such folder.
    """
    if "TORCHINDUCTOR_CACHE_DIR" not in os.environ:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(private_folder("torchinductor"))
    options: dict[str, Any] = {"fallback_random": True} if dropout > 0 else {}
    network.compile(options=options)


def frozen_model(init_from: TensorFile, device: Any) -> Denoiser:
    """Return the first stage's model, in evaluation mode and without gradients."""
    model = build_model(ModelDescription.from_json(init_from.metadata["network"]))
    model.network.load_state_dict(init_from.tensors)
    return model.to(device).eval().requires_grad_(False)
