"""``kedro lct runs``: all runs and their key numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from kedro.utils import find_kedro_project
from rich.text import Text

from lct_pipeline.reporting.words import steps, value_text
from lct_pipeline.runs.commands.printing import console, table
from lct_pipeline.runs.reading import find_runs, parse_time
from lct_pipeline.runs.summary import Summary, summarise

STYLES = {
    "finished": "green",
    "running": "cyan",
    "failed": "red",
    "interrupted": "yellow",
}
MODELS = ("last", "best_ema", "combined")
LATE = float("inf")  # runs without a value come last
KEYS: dict[str, Callable[[Summary], Any]] = {
    "name": lambda run: run.name,
    "last": lambda run: run.figures.get("last", {}).get("value", LATE),
    "best-ema": lambda run: run.figures.get("best_ema", {}).get("value", LATE),
    "combined": lambda run: run.figures.get("combined", {}).get("value", LATE),
    "minutes": lambda run: -run.minutes,
    "size": lambda run: -run.mebibytes,
}


@click.command()
@click.option(
    "--sort",
    type=click.Choice(["when", *KEYS]),
    default="when",
    help="By what: the newest, best, longest or largest first.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Show so many at most.")
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON list.")
def runs(sort: str, limit: int | None, as_json: bool) -> None:
    """List all runs with their key numbers."""
    found = find_runs(project_folder())
    if sort == "when":  # they come so; the rest need not be read
        summaries = [summarise(run) for run in found[:limit]]
    else:
        summaries = sorted(map(summarise, found), key=KEYS[sort])[:limit]
    if as_json:
        click.echo(json.dumps([asdict(summary) for summary in summaries], indent=1))
    elif summaries:
        _show(summaries)
    else:
        click.echo(
            "There are no runs yet. `kedro run` makes one of the built-in digits in minutes, "
            "`kedro run --env=smoke` in one minute."
        )


def project_folder() -> Path:
    """Return the project's folder: this one or one above it."""
    return find_kedro_project(Path.cwd()) or Path.cwd()


def _show(summaries: list[Summary]) -> None:
    """Print the table, how its values were made, and why runs failed."""
    made = dict.fromkeys(_made(run) for run in summaries if run.protocol)
    letters = {key: _letter(number) for number, key in enumerate(made)}
    rows = table(
        *("run", "status", "images", "steps"),
        *("last", "best EMA", "combined", "by", "min", "MiB"),
    )
    for run in summaries:
        rows.add_row(*_cells(run), letters.get(_made(run), ""), *_costs(run))
    screen = console()
    screen.print(rows)
    if letters:
        screen.print(
            "\nUnder each name its recipe, under each status when it began (UTC). "
            "Frechet distance, mean ± standard deviation over seeds of noise; only values of "
            "the same letter can be compared:"
        )
    for (headline, _, nfe), letter in letters.items():
        screen.print(f"  {letter}  {headline}, {steps(nfe)}")
    for run in summaries:
        if run.error:
            screen.print(f"\n{run.name} ({run.status}): {run.error.splitlines()[0]}")


def _cells(run: Summary) -> list[str | Text]:
    when = f"{parse_time(run.started):%d %b %H:%M}"
    values = [run.figures.get(model) for model in MODELS]
    return [
        _two_lines(run.name, run.recipe or ""),
        _two_lines(run.status, when, STYLES.get(run.status, "")),
        "" if run.num_images is None else f"{run.num_images:,}",
        _steps(run),
        *(value_text(**value) if value else "" for value in values),
    ]


def _costs(run: Summary) -> list[str]:
    minutes = f"{run.minutes:.0f}" if run.minutes >= 10 else f"{run.minutes:.1f}"
    return [minutes, f"{run.mebibytes:,.0f}"]


def _made(run: Summary) -> tuple[Any, ...]:
    return run.headline, run.protocol, run.num_evaluations


def _letter(number: int) -> str:
    """Return a, b, ..., z, aa, ab, ..."""
    more, last = divmod(number, 26)
    return (_letter(more - 1) if more else "") + chr(ord("a") + last)


def _two_lines(first: str, second: str, style: str = "bold") -> Text:
    return Text.assemble((first, style), "\n", (second, "dim"))


def _steps(run: Summary) -> str:
    """Return the steps that were made, of how many where some are missing."""
    if run.num_steps is None:
        return ""
    if run.planned_steps is None or run.num_steps >= run.planned_steps:
        return f"{run.num_steps:,}"
    return f"{run.num_steps:,}\nof {run.planned_steps:,}"
