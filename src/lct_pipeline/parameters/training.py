"""The parameters of the training stage: network, noise levels, objective, optimiser, averages."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lct_pipeline.parameters.types import (
    Count,
    Group,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Rate,
    RunName,
    Share,
    Width,
)

Norm = Literal[
    "non_scaling_layer_norm",
    "layer_norm",
    "group_norm",
    "non_scaling_group_norm",
    "instance_norm",
    "non_scaling_instance_norm",
    "rms_norm",
]
Probability = Annotated[float, Field(ge=0, lt=1)]


class MLPSize(Group):
    """Size of the residual MLP over flattened latents."""

    width: int = Field(ge=16, multiple_of=4)
    num_blocks: Positive


class UNetSize(Group):
    """Size of the ADM U-Net."""

    width: int = Field(ge=16, multiple_of=16)
    multipliers: tuple[Positive, ...] = Field(min_length=1)
    num_blocks: Positive
    attention_sizes: tuple[Positive, ...]
    head_width: Positive


class DiTSize(Group):
    """Size and variants of the diffusion transformer."""

    patch_size: Positive
    depth: Positive
    width: int = Field(ge=16, multiple_of=4)
    head_width: int = Field(ge=4, multiple_of=4)
    positions: Literal["sinusoidal", "rotary"]
    activation: Literal["gelu", "relu"]


class Network(Group):
    """The network that is trained, and the size of each kind."""

    kind: Literal["mlp", "unet", "dit"]
    norm: Norm
    dropout: Probability
    conditional: bool
    label_dropout: Probability
    mlp: MLPSize
    unet: UNetSize
    dit: DiTSize


class ContinuousLevels(Group):
    """ECT's map from t to r: r = t (1 - q^-(stage + 1) (1 + k sigmoid(-b t)))."""

    q: Annotated[float, Field(gt=1)]
    num_stages: Positive


class Noise(Group):
    """The noise levels, the curriculum and the distribution of levels."""

    schedule: Literal["index", "continuous"]
    sigma_min: PositiveFloat
    sigma_max: PositiveFloat
    sigma_data: PositiveFloat
    rho: PositiveFloat
    s0: Positive
    s1: Positive
    continuous: ContinuousLevels
    P_mean: float
    P_std: PositiveFloat

    @model_validator(mode="after")
    def _levels_increase(self) -> Noise:
        if self.sigma_min >= self.sigma_max:
            raise ValueError("sigma_min must be below sigma_max")
        if self.s1 < self.s0:
            raise ValueError("s1 must be at least s0")
        return self


class Truncation(Group):
    """Truncated consistency training: the second stage on t >= level."""

    level: PositiveFloat


class Objective(Group):
    """The training objective, and the techniques of sLCT that act on it, each with its switch."""

    kind: Literal["consistency", "diffusion", "distillation", "truncated"]
    loss: Literal["cauchy", "pseudo_huber", "geman_mcclure", "l2"]
    c_schedule: Literal["paper", "fitted", "constant"]
    residual: Literal["mean", "sum"]
    diffusion_weight: NonNegativeFloat
    diffusion_threshold: Share
    coupling: Literal["independent", "batch", "process"]
    truncation: Truncation


class Optimizer(Group):
    """How weights follow gradients."""

    name: Literal["radam", "adamw"]
    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat
    warmup_steps: Count
    clip_norm: PositiveFloat | None


class InitFrom(Group):
    """A finished run whose weights are the start, the teacher or the frozen part."""

    run: RunName | None
    checkpoint: str | None


class EMA(Group):
    """The averages of the weights that are kept beside them."""

    rates: tuple[Rate, ...]
    sigma_rels: tuple[Width, ...]
    snapshot_interval: Positive

    @model_validator(mode="after")
    def _one_average_at_least(self) -> EMA:
        if not self.rates and not self.sigma_rels:
            raise ValueError("give at least one rate or width")
        return self


class Training(Group):
    """Training of one model."""

    num_steps: Positive
    batch_size: Annotated[int, Field(ge=2)]
    precision: Literal["float32", "bfloat16"]
    resample_posterior: bool
    init_from: InitFrom
    network: Network
    noise: Noise
    objective: Objective
    optimizer: Optimizer
    ema: EMA
    checkpoint_interval: Positive
    checkpoint_window: Annotated[float, Field(gt=0, le=1)]
    metrics_interval: Positive
    seed: Count

    @model_validator(mode="after")
    def _init_from_is_there(self) -> Training:
        kind = self.objective.kind
        if kind in ("distillation", "truncated") and self.init_from.run is None:
            raise ValueError(
                f"objective.kind={kind} starts from a finished run: give its name as "
                "training.init_from.run (a folder of data/06_models)"
            )
        return self

    @model_validator(mode="after")
    def _diffusion_has_independent_noise(self) -> Training:
        objective = self.objective
        if objective.kind == "diffusion" and objective.coupling != "independent":
            raise ValueError(
                "objective.kind=diffusion needs objective.coupling=independent: with coupled noise "
                "the network would not learn the mean of what was noised"
            )
        return self

    @model_validator(mode="after")
    def _schedule_fits_objective(self) -> Training:
        if (
            self.objective.kind == "distillation"
            and self.noise.schedule == "continuous"
        ):
            raise ValueError(
                "objective.kind=distillation steps along the grid: noise.schedule=index"
            )
        if (
            self.objective.kind == "truncated"
            and not self.noise.sigma_min
            < self.objective.truncation.level
            < self.noise.sigma_max
        ):
            raise ValueError(
                "objective.truncation.level must be between sigma_min and sigma_max"
            )
        return self
