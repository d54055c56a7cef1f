"""The option ``--params``, as Kedro takes it and with lists: ``key=[a,b],other=1``."""

from __future__ import annotations

from copy import copy
from typing import Any

import click
from kedro.framework.cli.project import run as kedro_run
from omegaconf import OmegaConf

ORIGINAL = next(option for option in kedro_run.params if option.name == "params")


def parsed(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Return ``--params`` as Kedro does, with lists: ``key=[a,b],other=1``."""
    assert ORIGINAL.callback is not None
    if not isinstance(value, str):
        return ORIGINAL.callback(ctx, param, value)
    items = [item.strip() for item in _split(value) if item.strip()]
    for item in items:
        key, equals, _ = item.partition("=")
        if not (equals and key.strip()):
            ORIGINAL.callback(ctx, param, item)  # refuses it
    return OmegaConf.to_container(OmegaConf.from_dotlist(items))


def _split(text: str) -> list[str]:
    """Split at the commas that are outside of brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "[{") - (character in "]}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


PARAMS = copy(ORIGINAL)
PARAMS.callback = parsed
