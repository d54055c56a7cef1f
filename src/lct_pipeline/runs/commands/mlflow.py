"""``kedro lct mlflow``: runs in MLflow, from their records."""

from __future__ import annotations

import click

from lct_pipeline.errors import UserError
from lct_pipeline.runs.commands.runs import project_folder
from lct_pipeline.runs.mlflow_store import log_run
from lct_pipeline.runs.reading import find_run, find_runs


@click.command()
@click.argument("names", nargs=-1, metavar="[RUN]...")
def mlflow(names: tuple[str, ...]) -> None:
    """Log runs to MLflow, all of them where none is named.

    What was logged before is brought up to date. MLFLOW_TRACKING_URI says where to.
    """
    project = project_folder()
    chosen = [find_run(project, name) for name in names]
    known = (run for run in find_runs(project) if run.is_of_this_version)
    runs = chosen or [run for run in known if run.records]
    if not runs:
        raise UserError("There are no runs to log yet: `kedro run` makes one.")
    for run in runs:
        click.echo(f"{run.name}: MLflow run {log_run(run)}")
