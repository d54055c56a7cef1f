"""What parameter groups are built of: bounded types, and a frozen model that knows its keys."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
)

Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
RunName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$"), BeforeValidator(str)
]
Rate = Annotated[float, Field(gt=0, lt=1)]


def _as_text(value: Any) -> Any:
    """Return a whole number as text: YAML takes the name ``0`` for a number."""
    return str(value) if type(value) is int else value


def _compiled(expression: str) -> str:
    """Refuse what is no regular expression."""
    try:
        re.compile(expression)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return expression


def _with_group(expression: str) -> str:
    """Refuse a regular expression without a group."""
    if re.compile(expression).groups == 0:
        raise ValueError("needs a group in parentheses, which is the number")
    return expression


ImportPath = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
Text = Annotated[str, Field(min_length=1), BeforeValidator(_as_text)]
RegularExpression = Annotated[Text, AfterValidator(_compiled)]
GroupExpression = Annotated[RegularExpression, AfterValidator(_with_group)]


class Group(BaseModel):
    """A group of parameters: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


Width = Annotated[float, Field(gt=0, lt=0.28)]  # sigma_rel of EDM2; below 1 / sqrt(12)
