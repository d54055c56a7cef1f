"""``kedro lct runs``: all runs and their key numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from kedro.utils import find_kedro_project
from rich.text import Text

from lct_pipeline.runs.commands.tables import console, figure, table
from lct_pipeline.runs.reading import find_runs, parse_time
from lct_pipeline.runs.summary import summarise

if TYPE_CHECKING:
    from lct_pipeline.runs.summary import Summary

STYLES = {
    "finished": "green",
    "running": "cyan",
    "failed": "red",
    "interrupted": "yellow",
}
LATE = float("inf")  # runs without a figure come last
KEYS: dict[str, Callable[[Summary], Any]] = {
    "name": lambda run: run.name,
    "last": lambda run: _value(run, "last"),
    "best-ema": lambda run: _value(run, "best_ema"),
    "combined": lambda run: _value(run, "combined"),
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
        found = found[:limit]
    summaries = [summarise(run) for run in found]
    if sort != "when":
        summaries = sorted(summaries, key=KEYS[sort])[:limit]
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
    letters = _letters(summaries)
    rows = table(
        run="left",
        status="left",
        images="right",
        steps="right",
        last="left",
        best_EMA="left",
        combined="left",
        by="left",
        min="right",
        MiB="right",
    )
    for run in summaries:
        figures = [
            figure(**run.figures.get(model, {"value": None}))
            for model in ("last", "best_ema", "combined")
        ]
        rows.add_row(
            _two_lines(run.name, run.recipe or ""),
            _two_lines(run.status, _when(run.started), STYLES.get(run.status, "")),
            "" if run.num_images is None else f"{run.num_images:,}",
            _steps(run),
            *figures,
            letters.get(_made(run), ""),
            f"{run.minutes:.0f}" if run.minutes >= 10 else f"{run.minutes:.1f}",
            f"{run.mebibytes:,.0f}",
        )
    console().print(rows)
    _explain(summaries, letters)


def _explain(summaries: list[Summary], letters: dict[Any, str]) -> None:
    """Say how the figures were made, and why runs failed."""
    screen = console()
    if letters:
        screen.print(
            "\nUnder each name its recipe, under each status when it began (UTC). "
            "Frechet distance, mean ± standard deviation over seeds of noise; only figures of "
            "the same letter can be compared:"
        )
    shown = {_made(run): run for run in summaries}
    for made, letter in letters.items():
        count = shown[made].num_evaluations
        evaluations = "1 evaluation" if count == 1 else f"{count} evaluations"
        screen.print(f"  {letter}  {shown[made].headline}, {evaluations}")
    failed = [run for run in summaries if run.error]
    for run in failed:
        what = "is unreadable" if run.status == "unreadable" else "failed"
        screen.print(f"\n{run.name} {what}: {str(run.error).splitlines()[0]}")


def _letters(summaries: list[Summary]) -> dict[Any, str]:
    """Return a letter for each way in which figures were made."""
    made = dict.fromkeys(_made(run) for run in summaries if run.protocol)
    return {key: _letter(number) for number, key in enumerate(made)}


def _letter(number: int) -> str:
    """Return a, b, ..., z, aa, ab, ..."""
    more, last = divmod(number, 26)
    return (_letter(more - 1) if more else "") + chr(ord("a") + last)


def _made(run: Summary) -> tuple[Any, ...]:
    return (run.protocol, run.num_evaluations)


def _value(run: Summary, model: str) -> float:
    value = run.figures.get(model, {}).get("value")
    return LATE if value is None else value


def _when(started: str) -> str:
    return f"{parse_time(started):%d %b %H:%M}"


def _two_lines(first: str, second: str, style: str = "bold") -> Text:
    return Text.assemble((first, style), "\n", (second, "dim"))


def _steps(run: Summary) -> str:
    """Return the steps that were made, of how many where some are missing."""
    if run.num_steps is None:
        return ""
    if run.planned_steps is None or run.num_steps >= run.planned_steps:
        return f"{run.num_steps:,}"
    return f"{run.num_steps:,}\nof {run.planned_steps:,}"
