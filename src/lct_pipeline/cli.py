"""The project's commands: ``lct <command>``, and ``run`` with one message for a user's fault."""

from __future__ import annotations

import warnings
from copy import copy
from typing import Any

import click
from kedro.framework.cli.project import run as kedro_run

from lct_pipeline.errors import ParameterError, one_message
from lct_pipeline.pipeline_registry import STAGES
from lct_pipeline.runs.diff import diff
from lct_pipeline.runs.listing import runs
from lct_pipeline.runs.mlflow_store import mlflow
from lct_pipeline.runs.next_run import PARAMS, next_run


def _run(*args: Any, **kwargs: Any) -> Any:
    assert kedro_run.callback is not None
    # Kedro prefers --pipelines; --pipeline=<name> is what this project's users are told
    warnings.filterwarnings("ignore", message="Option '--pipeline' is deprecated")
    unknown = set(kwargs.get("namespaces") or ()) - set(STAGES)
    with one_message():
        if unknown:
            raise ParameterError(
                f"--namespaces={','.join(sorted(unknown))}: no such stage; there are: "
                f"{', '.join(STAGES)}."
            )
        return kedro_run.callback(*args, **kwargs)


class ProjectCommands(click.Group):
    """Commands that end with one message, without a traceback, for what a user can mend."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        with one_message():
            return super().invoke(ctx)


@click.group(name="lct_pipeline")
def cli() -> None:
    """Commands of lct_pipeline."""


@click.group(cls=ProjectCommands)
def lct() -> None:
    """Runs of this project."""


run = copy(kedro_run)
run.callback = _run
run.params = [PARAMS if p.name == "params" else p for p in kedro_run.params]
for command in (next_run, diff, mlflow, runs):
    lct.add_command(command)
cli.add_command(run)
cli.add_command(lct)
