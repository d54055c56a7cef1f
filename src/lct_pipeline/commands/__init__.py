"""The project's own commands: ``kedro lct <command>``, one module each."""

from __future__ import annotations

import click


@click.group()
def lct() -> None:
    """Runs of this project."""
