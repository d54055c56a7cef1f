"""The project's own commands: ``kedro lct <command>``, one module each."""

from __future__ import annotations

from typing import Any

import click

from lct_pipeline.errors import one_message
from lct_pipeline.runs.commands.diff import diff
from lct_pipeline.runs.commands.mlflow import mlflow
from lct_pipeline.runs.commands.next_run import next_run
from lct_pipeline.runs.commands.runs import runs


class ProjectCommands(click.Group):
    """Commands that end with one message, without a traceback, for what a user can mend."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        with one_message():
            return super().invoke(ctx)


@click.group(cls=ProjectCommands)
def lct() -> None:
    """Runs of this project."""


for command in (next_run, diff, mlflow, runs):
    lct.add_command(command)
