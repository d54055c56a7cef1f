"""From parameters to the noise levels of each step."""

from __future__ import annotations

from lct_pipeline.core.levels import (
    ContinuousSchedule,
    DiffusionSchedule,
    IndexSchedule,
    LevelSchedule,
    TruncatedSchedule,
    small_noise_level,
)
from lct_pipeline.parameters.training import Training

BOUNDARY_PROBABILITY = 0.25  # share of truncated training's samples at t' itself (TCM)
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
        return TruncatedSchedule(
            pairs, objective.truncation.level, BOUNDARY_PROBABILITY
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
        q=noise.continuous.q,
        num_stages=noise.continuous.num_stages,
        **ECT_SLOPE,
    )
