"""The project's commands: ``lct``, and ``run`` with one message for each fault of a user."""

from __future__ import annotations

import warnings
from copy import copy
from typing import Any

import click
from kedro.framework.cli.project import run as kedro_run

from lct_pipeline.errors import one_message
from lct_pipeline.pipeline_registry import STAGES
from lct_pipeline.runs.commands import lct
from lct_pipeline.runs.commands.options import PARAMS


def _run(*args: Any, **kwargs: Any) -> Any:
    assert kedro_run.callback is not None
    # Kedro prefers --pipelines; --pipeline=<name> is what this project's users are told
    warnings.filterwarnings("ignore", message="Option '--pipeline' is deprecated")
    unknown = set(kwargs.get("namespaces") or ()) - set(STAGES)
    if unknown:
        raise click.ClickException(
            f"--namespaces={','.join(sorted(unknown))}: no such stage; there are: "
            f"{', '.join(STAGES)}."
        )
    with one_message():
        return kedro_run.callback(*args, **kwargs)


@click.group(name="lct_pipeline")
def cli() -> None:
    """Commands of lct_pipeline."""


run = copy(kedro_run)
run.callback = _run
run.params = [PARAMS if p.name == "params" else p for p in kedro_run.params]
cli.add_command(run)
cli.add_command(lct)
