"""The parameters: one frozen model for each group of ``conf/*/parameters_<stage>.yml``.

Values live in ``conf/base`` alone; here are their types, bounds and meanings. A key that is not
declared is refused, so a misspelt one cannot pass silently.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any, get_args

from pydantic import ValidationError

from lct_pipeline.errors import ParameterError, instead_of
from lct_pipeline.parameters.combination import Combination
from lct_pipeline.parameters.data import Encoding, Ingestion
from lct_pipeline.parameters.evaluation import (
    Comparison,
    Evaluation,
    Features,
    Sampling,
    Statistics,
)
from lct_pipeline.parameters.runtime import Cataloging, Export, Runtime
from lct_pipeline.parameters.training import Training
from lct_pipeline.parameters.types import Group, Outside, RunName, marks
from lct_pipeline.plain_text import holds_secret


class Parameters(Group):
    """All parameters of the project."""

    run_id: RunName | None = None
    """Name of the run; null: one that stands for all that its weights depend on."""
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

    def faults(self) -> Iterator[str]:
        """Groups have to fit each other."""
        if self.cataloging.source is not None and self.run_id is None:
            yield "cataloging.source: give the run a name: --params=run_id=<name>"
        is_diffusion = self.training.objective.kind == "diffusion"
        if is_diffusion and "gradient" in self.combination.search.methods:
            yield (
                "a diffusion model takes many evaluations, and the gradient search goes through "
                "one: give combination.search.methods=[cma], or evolution"
            )


def check_parameters(values: dict[str, Any]) -> Parameters:
    """Return the typed parameters.

    Raises:
        ParameterError: A key is unknown, missing, of the wrong type or out of range. The message
            names each such key, the value and what is allowed. Or one has a secret, which is not
            repeated.
    """
    try:
        parameters = Parameters.model_validate(values)
    except ValidationError as error:
        raise _refusal(map(_describe, error.errors())) from None
    values = flatten(parameters.model_dump(mode="json"))
    shown = {k: str(v) for k, v in values.items() if isinstance(v, str | list)}
    everything = "\n".join(shown.values())
    if "://" in everything or holds_secret(everything):
        found = [name for name, text in shown.items() if holds_secret(text)]
        if found:
            raise _refusal(
                f"  {name}: has a password or a token, or a URL with a user, ? or #, and all "
                "parameters are written into records and reports. Give it without, and log in by "
                "the environment, such as HF_TOKEN"
                for name in found
            )
    return parameters


def _refusal(faults: Iterable[str]) -> ParameterError:
    """Return the error of parameters with these faults, a line each."""
    return ParameterError("\n".join(["Parameters refused, nothing was run:", *faults]))


def _describe(fault: Any) -> str:
    """Return a line for a refused parameter."""
    key = ".".join(map(str, fault["loc"]))
    if fault["type"] == "extra_forbidden":
        known = instead_of(str(fault["loc"][-1]), _keys_beside(fault["loc"]))
        return f"  {key}: no such parameter; {known}"
    if fault["type"] == "model_type":
        keys = ", ".join(_keys_beside((*fault["loc"], "")))
        return f"  {key}={fault['input']!r}: a group of parameters; give {key}.<one of {keys}>"
    if fault["type"] == "missing":
        return f"  {key}: missing"
    message = fault["msg"].removeprefix("Value error, ")
    if isinstance(fault["input"], dict):  # a group whose values do not go together
        return f"  {key}: {message}" if key else f"  {message}"
    if holds_secret(str(fault["input"])):
        return f"  {key}: {message}; its value is not shown, as it has a secret"
    return f"  {key}={fault['input']!r}: {message}"


def _keys_beside(location: tuple[int | str, ...]) -> list[str]:
    """Return the declared keys of the group in which an unknown key was given."""
    group: Any = Parameters
    for part in location[:-1]:
        if isinstance(part, int):
            group = get_args(group)[0]
        else:
            group = group.model_fields[part].annotation
    return list(group.model_fields)


def parameters_digest(groups: dict[str, Any]) -> str:
    """Return eight hexadecimal digits that stand for the values of some groups."""
    text = json.dumps(groups, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values by dotted name; lists are values."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def differences(old: dict[str, Any], new: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the old and the new value, by dotted name, where nested values differ."""
    first, second = flatten(old), flatten(new)
    names = dict.fromkeys([*first, *second])
    pairs = {name: (first.get(name), second.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def first_difference(old: dict[str, Any], new: dict[str, Any]) -> str | None:
    """Return ``key: old value -> new value`` for the first place where two groups differ."""
    for name, (before, after) in differences(old, new).items():
        return f"{name}: {before!r} -> {after!r}"
    return None


def outside_values(group: Group, prefix: str = "") -> dict[str, str]:
    """Return the values that name a file, or code that is run, by dotted name: see ``Outside``."""
    found: dict[str, str] = {}
    for name, field in type(group).model_fields.items():
        value, key = getattr(group, name), f"{prefix}{name}"
        for place, part in enumerate(value if isinstance(value, tuple) else [value]):
            if isinstance(part, Group):
                ending = f".{place}" if isinstance(value, tuple) else ""
                found |= outside_values(part, f"{key}{ending}.")
        mark = next((m for m in marks(field) if isinstance(m, Outside)), None)
        if mark is not None and value is not None and value not in mark.words:
            found[key] = value
    return found
