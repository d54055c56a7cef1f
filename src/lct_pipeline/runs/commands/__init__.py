"""The project's own commands: ``kedro lct <command>``, one module each."""

from __future__ import annotations

from typing import Any

import click

from lct_pipeline.errors import user_error_in
from lct_pipeline.runs.commands.diff import diff
from lct_pipeline.runs.commands.mlflow import mlflow
from lct_pipeline.runs.commands.next_run import next_run
from lct_pipeline.runs.commands.runs import runs


class ProjectCommands(click.Group):
    """Commands that end with one message, without a traceback, for what a user can mend."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            fault = user_error_in(error)
            if fault is None:
                raise
            raise click.ClickException(str(fault)) from None


@click.group(cls=ProjectCommands)
def lct() -> None:
    """Runs of this project."""


lct.add_command(next_run)
lct.add_command(diff)
lct.add_command(mlflow)
lct.add_command(runs)
