"""What parameter groups are built of: bounded types, and a frozen model that knows its keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Self, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)
from pydantic.fields import FieldInfo

AtLeastTwo = Annotated[int, Field(ge=2)]
Share = Annotated[float, Field(ge=0, le=1)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Rate = Annotated[float, Field(gt=0, lt=1)]
Width = Annotated[float, Field(gt=0, lt=0.28)]  # sigma_rel of EDM2; below 1 / sqrt(12)


def _as_written(value: Any) -> Any:
    """Refuse what YAML made of a text, as of ``007``, ``12:30``, ``1e5`` and ``on``."""
    if isinstance(value, bool | int | float):
        raise ValueError("read as no text: put it in quotes, as in '007'")
    return value


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


@dataclass(frozen=True)
class Outside:
    """Mark of a parameter that names a file, or code to run: ``conf/`` or a command does so.

    Attributes:
        words: Values that name neither.
    """

    words: tuple[str, ...] = ()


Text = Annotated[str, Field(min_length=1), BeforeValidator(_as_written)]
RUN_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
RunName = Annotated[Text, Field(pattern=RUN_NAME)]
FilePath = Annotated[Text, Outside()]
ImportPath = Annotated[
    Text, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"), Outside()
]
RegularExpression = Annotated[Text, AfterValidator(_compiled)]
GroupExpression = Annotated[RegularExpression, AfterValidator(_with_group)]


class Group(BaseModel):
    """A group of parameters: frozen, unknown keys refused.

    The text below a parameter is what the tables in ``docs/parameters.md`` say of it.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    def faults(self) -> Iterator[str]:
        """Yield what is wrong with values that are right one by one, and what would be right."""
        yield from ()

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        for fault in self.faults():
            raise ValueError(fault)
        return self


def marks(field: FieldInfo) -> Iterator[Any]:
    """Yield the types that a parameter may have, and all that they are annotated with."""
    yield from field.metadata
    yield from _parts(field.annotation)


def _parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    if get_origin(annotation) in (Annotated, Union, UnionType):
        for part in (
            *get_args(annotation),
            *getattr(annotation, "__metadata__", ()),
        ):
            yield from _parts(part)
