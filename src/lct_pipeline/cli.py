"""The project's commands: ``lct <command>``, and ``run`` with one message for a user's fault."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Iterable
from copy import copy
from pathlib import Path
from traceback import extract_tb
from typing import Any

import click
from kedro.framework.cli.project import run as kedro_run
from kedro.pipeline import Pipeline

from lct_pipeline.errors import ParameterError, instead_of, one_message
from lct_pipeline.pipeline_registry import STAGES, register_pipelines
from lct_pipeline.runs.diff import diff
from lct_pipeline.runs.listing import runs
from lct_pipeline.runs.mlflow_store import mlflow
from lct_pipeline.runs.next_run import PARAMS, next_run


def _run(*args: Any, **kwargs: Any) -> Any:
    assert kedro_run.callback is not None
    # Kedro prefers --pipelines; --pipeline=<name> is what this project's users are told
    warnings.filterwarnings("ignore", message="Option '--pipeline' is deprecated")
    for runner in ("sequential", "thread", "parallel"):
        logging.getLogger(f"kedro.runner.{runner}_runner").addFilter(_is_shown)
    with one_message():
        _check_names("namespaces", kwargs, STAGES)
        pipelines = register_pipelines()
        for option in ("pipeline", "pipelines"):
            _check_names(option, kwargs, pipelines)
        try:
            return kedro_run.callback(*args, **kwargs)
        except ValueError as error:
            place = extract_tb(error.__traceback__)[-1].filename
            if Path(place) != Path(inspect.getfile(Pipeline)):
                raise
            names = instead_of(
                "", (node.name for node in pipelines["__default__"].nodes)
            )
            raise ParameterError(f"{error} Of all {names}.") from error


def _is_shown(record: logging.LogRecord) -> bool:
    """Leave out Kedro's advice after a failure: to go on, the same command is typed again."""
    text = record.getMessage()
    return "No nodes ran" not in text and "nodes that have not run" not in text


def _check_names(option: str, given: dict[str, Any], known: Iterable[str]) -> None:
    """Refuse names of stages or pipelines that there are not."""
    value = given.get(option) or ()
    for name in [value] if isinstance(value, str) else value:
        if name not in known:
            what = "stage" if option == "namespaces" else "pipeline"
            there = instead_of(name, known)
            raise ParameterError(f"--{option}={name}: no such {what}; {there}.")


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
