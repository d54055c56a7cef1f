"""The option ``--params``, as Kedro takes it and with lists: ``key=[a,b],other=1``."""

from __future__ import annotations

from copy import copy
from typing import Any

import click
from kedro.framework.cli.project import run as kedro_run
from omegaconf import OmegaConf


def _params(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Return ``--params`` as Kedro does, with lists: ``key=[a,b],other=1``."""
    if not isinstance(value, str):
        return _kedro_params(ctx, param, value)
    items = [item.strip() for item in _split(value) if item.strip()]
    for item in items:
        key, equals, _ = item.partition("=")
        if not (equals and key.strip()):
            _kedro_params(ctx, param, item)  # refuses it
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


def _kedro_params(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    assert ORIGINAL.callback is not None
    return ORIGINAL.callback(ctx, param, value)


def parsed(params: str) -> dict[str, Any]:
    """Return what ``kedro run`` makes of its ``--params``."""
    return _params(click.get_current_context(), PARAMS, params)


ORIGINAL = next(option for option in kedro_run.params if option.name == "params")
PARAMS = copy(ORIGINAL)
PARAMS.callback = _params
