"""The parameters: one frozen model for each group of ``conf/*/parameters_<stage>.yml``.

Values live in ``conf/base`` alone; here are their types and bounds. A key that is not declared is
refused, so a misspelt one cannot pass silently.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from lct_pipeline.errors import ParameterError

Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
RunName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$"), BeforeValidator(str)
]
Rate = Annotated[float, Field(gt=0, lt=1)]


class Group(BaseModel):
    """A group of parameters: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Runtime(Group):
    """Where the work runs; no result depends on it, up to the rounding of a device."""

    device: Literal["auto", "cpu", "cuda", "mps"]
    num_threads: Count


class Splits(Group):
    """Shares of the images; the rest is the training split."""

    validation: Share
    test: Share

    @model_validator(mode="after")
    def _leave_training_images(self) -> Splits:
        if self.validation + self.test >= 1:
            raise ValueError(
                "validation and test together must leave a share for training"
            )
        return self


class Ingestion(Group):
    """Which images, and how they become squares of one size."""

    source: str = Field(min_length=1)
    image_size: int = Field(ge=8, multiple_of=8)
    splits: Splits
    max_problem_share: Share
    max_pixels: Positive
    shard_size: Positive


class FittedAutoencoder(Group):
    """The small AutoencoderKL that is fitted when no autoencoder is named."""

    block_channels: tuple[Positive, ...] = Field(min_length=1)
    latent_channels: Positive
    num_steps: Positive
    batch_size: Positive
    learning_rate: PositiveFloat
    kl_weight: NonNegativeFloat

    @model_validator(mode="after")
    def _groups_divide_channels(self) -> FittedAutoencoder:
        groups = max(1, min(self.block_channels) // 2)
        if any(channels % groups for channels in self.block_channels):
            raise ValueError(f"block_channels must all be multiples of {groups}")
        return self


class Encoding(Group):
    """The autoencoder and the latents."""

    autoencoder: str | None
    fitted: FittedAutoencoder
    warn_below_psnr: NonNegativeFloat
    batch_size: Positive
    seed: Count


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


class Network(Group):
    """The network that is trained, and the size of either kind."""

    kind: Literal["mlp", "unet"]
    norm: Literal["non_scaling_layer_norm", "layer_norm", "group_norm"]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    mlp: MLPSize
    unet: UNetSize


class Noise(Group):
    """The noise levels, the curriculum and the distribution of levels."""

    sigma_min: PositiveFloat
    sigma_max: PositiveFloat
    sigma_data: PositiveFloat
    rho: PositiveFloat
    s0: Positive
    s1: Positive
    P_mean: float
    P_std: PositiveFloat

    @model_validator(mode="after")
    def _levels_increase(self) -> Noise:
        if self.sigma_min >= self.sigma_max:
            raise ValueError("sigma_min must be below sigma_max")
        if self.s1 < self.s0:
            raise ValueError("s1 must be at least s0")
        return self


class Objective(Group):
    """The five techniques of sLCT, each with its switch."""

    loss: Literal["cauchy", "pseudo_huber", "geman_mcclure", "l2"]
    adaptive_c: bool
    diffusion_weight: NonNegativeFloat
    diffusion_threshold: Share
    optimal_transport: bool


class Training(Group):
    """Training of one latent consistency model."""

    num_steps: Positive
    batch_size: Annotated[int, Field(ge=2)]
    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat
    resample_posterior: bool
    network: Network
    noise: Noise
    objective: Objective
    ema_rates: tuple[Rate, ...] = Field(min_length=1)
    checkpoint_interval: Positive
    metrics_interval: Positive
    seed: Count


class Sampling(Group):
    """How trained models generate."""

    two_step_sigma: PositiveFloat
    batch_size: Positive
    grid_size: Positive


class Search(Group):
    """The evolutionary search over coefficients."""

    num_evaluations: Positive
    population: Annotated[int, Field(ge=2)]
    num_parents: Annotated[int, Field(ge=2)]
    crossover_probability: Share
    mutation_probability: Share
    mutation_scale: PositiveFloat
    initial_ema_rates: tuple[Rate, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _budget_holds_the_start(self) -> Search:
        least = len(self.initial_ema_rates) + 3  # uniform, last, mean of the survivors
        if self.num_evaluations < least:
            raise ValueError(
                f"num_evaluations must be at least {least}: the initial EMA rates, the uniform "
                "average, the last checkpoint, and the mean of the survivors"
            )
        return self


class Combination(Group):
    """LCSC: which checkpoints are combined and how the search runs."""

    window: Annotated[float, Field(gt=0, le=1)]
    num_images: Count
    block_size: Positive
    search: Search
    seed: Count


class FittedClassifier(Group):
    """The small classifier whose features stand in where Inception is not at hand."""

    width: int = Field(ge=8, multiple_of=8)
    num_features: Positive
    num_steps: Positive
    batch_size: Positive
    learning_rate: PositiveFloat


class Features(Group):
    """The feature extractor of all distances."""

    extractor: Literal["classifier", "inception"]
    inception_path: str | None
    classifier: FittedClassifier
    batch_size: Positive
    seed: Count


class Evaluation(Group):
    """The final numbers."""

    num_images: Count
    seed: Count


class Parameters(Group):
    """All parameters of the project."""

    run_id: RunName | None = None
    runtime: Runtime
    ingestion: Ingestion
    encoding: Encoding
    training: Training
    sampling: Sampling
    combination: Combination
    features: Features
    evaluation: Evaluation


def check_parameters(values: dict[str, Any]) -> Parameters:
    """Return the typed parameters.

    Raises:
        ParameterError: A key is unknown, missing, of the wrong type or out of range. The message
            names each such key, the value and what is allowed.
    """
    try:
        return Parameters.model_validate(values)
    except ValidationError as error:
        raise ParameterError(describe(error)) from None


def describe(error: ValidationError) -> str:
    """Return one line for each refused parameter."""
    lines = [_describe_one(fault) for fault in error.errors()]
    return "\n".join(["Parameters refused, nothing was run:", *lines])


def _describe_one(fault: Any) -> str:
    key = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        known = ", ".join(_keys_beside(fault["loc"]))
        return f"  {key}: no such parameter; there are: {known}"
    if fault["type"] == "missing":
        return f"  {key}: missing"
    return f"  {key}={fault['input']!r}: {fault['msg']}"


def _keys_beside(location: tuple[int | str, ...]) -> list[str]:
    """Return the declared keys of the group in which an unknown key was given."""
    group: Any = Parameters
    for part in location[:-1]:
        group = group.model_fields[part].annotation
    return list(group.model_fields)


def parameters_digest(groups: dict[str, Any]) -> str:
    """Return eight hexadecimal digits that stand for the values of some groups."""
    text = json.dumps(groups, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def first_difference(old: Any, new: Any, path: str = "") -> str | None:
    """Return ``key: old value -> new value`` for the first place where two groups differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(k for k in new if k not in old)]:
            found = first_difference(
                old.get(key), new.get(key), f"{path}.{key}" if path else key
            )
            if found:
                return found
        return None
    return None if old == new else f"{path}: {old!r} -> {new!r}"
