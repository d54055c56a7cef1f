"""What parameter groups are built of: bounded types, and a frozen model that knows its keys."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

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


Width = Annotated[float, Field(gt=0, lt=0.28)]  # sigma_rel of EDM2; below 1 / sqrt(12)
