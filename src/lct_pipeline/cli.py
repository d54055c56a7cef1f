"""The project's commands: Kedro's ``run``, with one message for each fault that a user can mend."""

from __future__ import annotations

import warnings
from copy import copy
from typing import Any

import click
from kedro.framework.cli.project import run as kedro_run

from lct_pipeline.errors import UserError


def user_error_in(error: BaseException | None) -> UserError | None:
    """Return the fault that a user can mend behind an exception, None where there is none."""
    while error is not None:
        if isinstance(error, UserError):
            return error
        error = error.__cause__ or error.__context__
    return None


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


@click.group(name="lct_pipeline")
def cli() -> None:
    """Commands of lct_pipeline."""


run = copy(kedro_run)
run.callback = _run
cli.add_command(run)
