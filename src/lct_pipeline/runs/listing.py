"""``kedro lct runs``: all runs and their key numbers."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from shutil import get_terminal_size
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lct_pipeline.datasets.results import EvaluationRow
from lct_pipeline.datasets.run_records import parse_time
from lct_pipeline.errors import DataError
from lct_pipeline.plain_text import printable
from lct_pipeline.reporting.words import steps, value_text
from lct_pipeline.runs.reading import Run, find_runs, project_folder

STYLES = {
    "finished": "green",
    "running": "cyan",
    "failed": "red",
    "interrupted": "yellow",
}
MODELS = ("last", "best_ema", "combined")
WIDTH = 100
# columns that may take more lines where there is no room, and their least width
FOLDED = {"run": 12, "metric": 20, "verdict": 16}
NUMBERS = ("images", "steps", "min", "MiB", "nfe", "B less A")


@dataclass(frozen=True)
class Summary:
    """A run in one line.

    Args:
        name: Of the run.
        started: When it was last worked on, UTC.
        status: Of its last session; ``other version`` where another version of the project made
            it, ``unreadable`` where its evaluation is damaged, or no record of it can be read.
        error: Why that failed or cannot be read.
        recipe: Folder of ``conf/`` that it was run with.
        source: Where its images are from.
        num_images: In the training split; None where that is not known.
        num_steps: The last step of which there is a checkpoint.
        planned_steps: How many there were to be.
        values: Frechet distance by model: ``value`` and ``std`` over seeds.
        num_evaluations: How many network evaluations the values are at: one, or the fewest there
            are.
        protocol: Digest of how the values were made; only equal ones may be compared.
        headline: That in words.
        minutes: How long all sessions took together.
        mebibytes: What its own folders hold.
    """

    name: str
    started: str
    status: str
    error: str | None
    recipe: str | None
    source: str | None
    num_images: int | None
    num_steps: int | None
    planned_steps: int | None
    values: dict[str, dict[str, float | None]]
    num_evaluations: int | None
    protocol: str | None
    headline: str | None
    minutes: float
    mebibytes: float


def summarise(run: Run) -> Summary:
    """Return the key numbers of a run; what cannot be read of it is its error."""
    status, error = run.status, run.last.error if run.last else None
    rows, images, parameters = list[EvaluationRow](), dict[str, int](), run.parameters
    if run.problems:
        error = run.problems[0]
    try:
        images = run.images_by_split()
    except DataError as problem:
        error = str(problem)
    try:
        rows = key_rows(run.rows)
    except DataError as problem:
        status, error = "unreadable", str(problem)
    if not run.is_of_this_version:
        status, error = "other version", "its parameters are not those of this one"
    return Summary(
        name=run.name,
        started=run.started,
        status=status,
        error=error,
        recipe=run.recipe,
        source=parameters.get("ingestion", {}).get("source"),
        num_images=images.get("train"),
        num_steps=run.num_steps,
        planned_steps=parameters.get("training", {}).get("num_steps"),
        values={r.model: {"value": r.value, "std": r.std} for r in rows},
        num_evaluations=rows[0].nfe if rows else None,
        protocol=rows[0].protocol if rows else None,
        headline=headline_of(rows[0]) if rows else None,
        minutes=run.seconds / 60,
        mebibytes=run.num_bytes / 2**20,
    )


def key_rows(rows: list[EvaluationRow]) -> list[EvaluationRow]:
    """Return the Frechet distances of the trained models, all by one protocol.

    That of the test split where there are several, at one evaluation or the fewest there are.
    """
    distances = ("fid", "_frechet_distance")
    found = [row for row in rows if row.nfe and row.metric.endswith(distances)]
    on_test = [row for row in found if row.reference == "the test split"]
    same = [row for row in found if row.protocol == (on_test or found)[0].protocol]
    fewest = min((row.nfe for row in same), default=0)
    return [row for row in same if row.nfe == fewest]


def headline_of(row: EvaluationRow) -> str:
    """Return in words how a row was made."""
    from lct_pipeline.evaluation.protocol import headline  # which torch comes with

    return headline(row)


def _key_of(model: str) -> Callable[[Summary], Any]:
    """Return a key by the value of a model; runs without one come last."""
    return lambda run: run.values.get(model, {"value": math.inf})["value"]


KEYS: dict[str, Callable[[Summary], Any]] = {
    "name": lambda run: run.name,
    "last": _key_of("last"),
    "best-ema": _key_of("best_ema"),
    "combined": _key_of("combined"),
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


def console() -> Console:
    """Return where to print: as wide as the terminal, and 100 columns at least: none is cut."""
    terminal = get_terminal_size().columns if sys.stdout.isatty() else 0
    return Console(
        width=max(WIDTH, terminal), highlight=False, markup=False, emoji=False
    )


def table(*titles: str) -> Table:
    """Return an empty table; numbers stand at the right."""
    made = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for title in titles:
        made.add_column(
            title,
            justify="right" if title in NUMBERS else "left",
            overflow="fold",
            no_wrap=title not in FOLDED,
            min_width=FOLDED.get(title),
        )
    return made


def _show(summaries: list[Summary]) -> None:
    """Print the table, how its values were made, and why runs failed."""
    made = dict.fromkeys(_made(run) for run in summaries if run.protocol)
    letters = {key: _letter(number) for number, key in enumerate(made)}
    rows = table(
        *("run", "status", "images", "steps"),
        *("last", "best EMA", "combined", "by", "min", "MiB"),
    )
    for run in summaries:
        rows.add_row(*_cells(run, letters.get(_made(run), "")))
    screen = console()
    screen.print(rows)
    if letters:
        screen.print(
            "\nUnder each name its recipe, under each status when it began (UTC). "
            "Frechet distance, mean ± standard deviation over seeds of noise; only values of "
            "the same letter can be compared:"
        )
    for (headline, _, nfe), letter in letters.items():
        screen.print(printable(f"  {letter}  {headline}, {steps(nfe)}"))
    for run in summaries:
        if run.error:
            said = f"{run.name} ({run.status}): {run.error.splitlines()[0]}"
            screen.print(f"\n{printable(said)}", soft_wrap=True)


def _made(run: Summary) -> tuple[Any, ...]:
    return run.headline, run.protocol, run.num_evaluations


def _letter(number: int) -> str:
    """Return a, b, ..., z, aa, ab, ..."""
    more, last = divmod(number, 26)
    return (_letter(more - 1) if more else "") + chr(ord("a") + last)


def _cells(run: Summary, letter: str) -> list[str | Text]:
    when = f"{parse_time(run.started):%d %b %H:%M}"
    values = [run.values.get(model) for model in MODELS]
    return [
        _two_lines(run.name, run.recipe or ""),
        _two_lines(run.status, when, STYLES.get(run.status, "")),
        "" if run.num_images is None else f"{run.num_images:,}",
        _steps(run),
        *(value_text(**value) if value else "" for value in values),
        letter,
        f"{run.minutes:.0f}" if run.minutes >= 10 else f"{run.minutes:.1f}",
        f"{run.mebibytes:,.0f}",
    ]


def _two_lines(first: str, second: str, style: str = "bold") -> Text:
    return Text.assemble((printable(first), style), "\n", (printable(second), "dim"))


def _steps(run: Summary) -> str:
    """Return the steps that were made, of how many where some are missing."""
    if run.num_steps is None:
        return ""
    if run.planned_steps is None or run.num_steps >= run.planned_steps:
        return f"{run.num_steps:,}"
    return f"{run.num_steps:,}\nof {run.planned_steps:,}"
