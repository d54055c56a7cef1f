"""The parameters: one frozen model for each group of ``conf/*/parameters_<stage>.yml``.

Values live in ``conf/base`` alone; here are their types and bounds. A key that is not declared is
refused, so a misspelt one cannot pass silently.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from lct_pipeline.errors import ParameterError
from lct_pipeline.parameters.combination import Combination
from lct_pipeline.parameters.data import Encoding, Ingestion
from lct_pipeline.parameters.evaluation import Comparison, Evaluation, Features
from lct_pipeline.parameters.export import Export
from lct_pipeline.parameters.training import Training
from lct_pipeline.parameters.types import (
    Count,
    Group,
    GroupExpression,
    Positive,
    PositiveFloat,
    RegularExpression,
    RunName,
    Text,
)


class Runtime(Group):
    """Where and how the work runs; no result depends on it, up to rounding."""

    device: Literal["auto", "cpu", "cuda", "mps"]
    num_threads: Count
    num_workers: Count
    num_processes: Positive
    gradient_accumulation: Positive
    compile: bool
    latents_on_device: bool
    mlflow: bool


class Cataloging(Group):
    """Checkpoints of another trainer, and how their files are read."""

    source: Text | None
    pattern: Text | None
    step: GroupExpression | None
    entry: Text | None
    names: RegularExpression | None
    strip_prefix: Text | None
    kind: Literal["raw", "ema"]


class Statistics(Group):
    """Where temporal differences of the trained model are measured."""

    num_td_levels: Annotated[int, Field(ge=2)]
    num_td_images: Count


class DiffusionSampling(Group):
    """How diffusion models generate."""

    sampler: Literal["heun", "dpm_solver"]
    num_evaluations: tuple[Positive, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _heun_takes_two_a_step(self) -> DiffusionSampling:
        if self.sampler == "heun" and any(
            n < 3 or n % 2 == 0 for n in self.num_evaluations
        ):
            raise ValueError(
                "heun evaluates twice a step but once in the last: give odd numbers from 3 on"
            )
        return self


class Sampling(Group):
    """How trained models generate."""

    intermediate_sigmas: tuple[PositiveFloat, ...] = Field(min_length=1)
    renoise: tuple[Literal["fresh", "same", "coupled"], ...] = Field(min_length=1)
    guidance: PositiveFloat
    diffusion: DiffusionSampling
    batch_size: Positive
    grid_size: Positive


class Parameters(Group):
    """All parameters of the project."""

    run_id: RunName | None = None
    runtime: Runtime
    ingestion: Ingestion
    encoding: Encoding
    training: Training
    cataloging: Cataloging
    statistics: Statistics
    sampling: Sampling
    combination: Combination
    features: Features
    evaluation: Evaluation
    comparison: Comparison
    export: Export

    @model_validator(mode="after")
    def _imported_checkpoints_have_a_run(self) -> Parameters:
        if self.cataloging.source is not None and self.run_id is None:
            raise ValueError(
                "cataloging.source: give the run a name: --params=run_id=<name>"
            )
        return self

    @model_validator(mode="after")
    def _gradient_search_takes_one_step(self) -> Parameters:
        is_diffusion = self.training.objective.kind == "diffusion"
        if is_diffusion and "gradient" in self.combination.search.methods:
            raise ValueError(
                "a diffusion model takes many evaluations, and the gradient search goes through "
                "one: give combination.search.methods=[cma], or evolution"
            )
        return self


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
    message = fault["msg"].removeprefix("Value error, ")
    if isinstance(fault["input"], dict):  # a group whose values do not go together
        return f"  {key}: {message}" if key else f"  {message}"
    return f"  {key}={fault['input']!r}: {message}"


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
