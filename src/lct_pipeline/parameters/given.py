"""``--params`` as typed: text stays the text that it is, other values are read as YAML."""

from __future__ import annotations

from typing import Any, get_args

from omegaconf import OmegaConf

from lct_pipeline.errors import ParameterError
from lct_pipeline.parameters import Parameters
from lct_pipeline.parameters.types import marks

NOTHING = ("null", "~", "")
QUOTES = ("'", '"')


def parsed(text: str) -> dict[str, Any]:
    """Return the values of ``key=value,key=[a,b],key='with, comma'``, nested by their dots.

    Raises:
        ParameterError: An item is not of this form.
    """
    found: dict[str, Any] = {}
    for item in filter(str.strip, _split(text)):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not (equals and key) or "${" in value:
            raise ParameterError(
                f"--params: {item.strip()!r} is not of the form key=value."
            )
        *groups, name = key.split(".")
        group = found
        for part in groups:
            group = group.setdefault(part, {})
            if not isinstance(group, dict):
                raise ParameterError(f"--params: {part} of {key} has a value already.")
        group[name] = value if _is_text(key, value) else _read(value)
    return found


def _split(text: str) -> list[str]:
    """Split at the commas that are outside of brackets and quotes, which begin a value."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        begins = depth > 0 or parts[-1].rstrip().endswith("=")
        if quote:
            quote = "" if character == quote else quote
        elif begins and character in QUOTES:
            quote = character
        elif begins and character in "[{":
            depth += 1
        elif depth and character in "]}":
            depth -= 1
        if character == "," and not (depth or quote):
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _is_text(key: str, value: str) -> bool:
    """Return whether a parameter is a text, and the value is neither in quotes nor none."""
    if value in NOTHING or value.startswith(QUOTES):
        return False
    group: Any = Parameters
    *groups, name = key.split(".")
    for part in groups:
        field = getattr(group, "model_fields", {}).get(part)
        group = field and field.annotation
    field = getattr(group, "model_fields", {}).get(name)
    if field is None:
        return False
    types = list(marks(field))
    return str in types or any(
        isinstance(word, str) for t in types for word in get_args(t)
    )


def _read(value: str) -> Any:
    try:
        read: Any = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={value}"]))
    except Exception as error:  # of two libraries
        raise ParameterError(f"--params: {value!r} cannot be read: {error}") from error
    return read["value"]
