"""The project's commands: ``lct``, and ``run`` with one message for each fault of a user."""

from __future__ import annotations

import warnings
from copy import copy
from typing import Any

import click
from kedro.framework.cli.project import run as kedro_run
from omegaconf import OmegaConf

from lct_pipeline.commands import lct
from lct_pipeline.errors import user_error_in


def _run(*args: Any, **kwargs: Any) -> Any:
    assert kedro_run.callback is not None
    # Kedro prefers --pipelines; --pipeline=<name> is what this project's users are told
    warnings.filterwarnings("ignore", message="Option '--pipeline' is deprecated")
    try:
        return kedro_run.callback(*args, **kwargs)
    except Exception as error:
        fault = user_error_in(error)
        if fault is None:
            raise
        raise click.ClickException(str(fault)) from None


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
    original = next(p for p in kedro_run.params if p.name == "params")
    assert original.callback is not None
    return original.callback(ctx, param, value)


def with_lists(param: click.Parameter) -> click.Parameter:
    """Return Kedro's option ``--params``, which also takes lists."""
    changed = copy(param)
    changed.callback = _params
    return changed


@click.group(name="lct_pipeline")
def cli() -> None:
    """Commands of lct_pipeline."""


run = copy(kedro_run)
run.callback = _run
run.params = [
    with_lists(param) if param.name == "params" else param for param in kedro_run.params
]
cli.add_command(run)
cli.add_command(lct)
