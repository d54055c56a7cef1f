"""``kedro lct diff A B``: how two runs differ."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click
from rich.text import Text

from lct_pipeline.reporting.words import metric_name, model_name, value_text
from lct_pipeline.runs.commands.printing import console, table
from lct_pipeline.runs.commands.runs import MODELS, project_folder
from lct_pipeline.runs.diff import Comparison, Differences, Result, compare
from lct_pipeline.runs.reading import Run, find_run
from lct_pipeline.runs.summary import headline_of

SHOWN = ("_frechet_distance", "fid", "precision", "recall")


@click.command()
@click.argument("a")
@click.argument("b")
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="All values: of controls and of further extractors too.",
)
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object.")
def diff(a: str, b: str, everything: bool, as_json: bool) -> None:
    """Say how run B differs from run A: parameters, data, code and results."""
    runs = [find_run(project_folder(), name) for name in (a, b)]
    comparison = compare(*runs)
    if as_json:
        click.echo(json.dumps(asdict(comparison), indent=1))
        return
    for letter, run in zip("AB", runs, strict=True):
        click.echo(f"{letter}  {run.name}, {run.started[:10]}, {run.status}")
    _show_inputs(comparison, runs[0])
    _show_results(comparison.results, runs, everything)


def _show_inputs(found: Comparison, a: Run) -> None:
    images = (f"{count:,} {name}" for name, count in a.images_by_split().items())
    commit = (a.last.get("commit") or "unknown")[:10]
    dirty = ", with changes that are not committed" if a.last.get("dirty") else ""
    _show_group("Parameters", found.parameters)
    if found.runtime:
        _show_group("Runtime, on which no result depends", found.runtime)
    _show_group("Data", found.data, " + ".join(images))
    _show_group("Code", found.code, f"commit {commit}{dirty}")
    _show_changes(found)
    _show_group("Versions", found.versions)
    _show_group("Device", found.device, a.last.get("device", ""))


def _show_changes(found: Comparison) -> None:
    """Say what git knows of the difference between the commits."""
    if "commit" not in found.code:
        return
    if found.changes is None:
        click.echo("  not both commits are in this repository")
    elif not found.changes:
        click.echo("  nothing differs in src and conf between the commits")
    for line in found.changes or []:
        click.echo(f"  {line.strip()}")
    if any(found.code.get("dirty", (False, False))):
        click.echo(
            "  dirty: files were changed and not committed, which git does not show"
        )


def _show_group(title: str, pairs: Differences, about: str = "") -> None:
    """Print what differs, or in one line that nothing does."""
    heading = click.style(title, bold=True)
    if not pairs:
        click.echo(f"\n{heading}: equal" + (f" ({about})" if about else ""))
        return
    click.echo(f"\n{heading}: {len(pairs)} differ{'s' if len(pairs) == 1 else ''}")
    width = max(map(len, pairs))
    for name, values in pairs.items():
        old, new = (_text(value, title) for value in values)
        click.echo(f"  {name:{width}}  {old} -> {new}")


def _text(value: Any, group: str) -> str:
    """Return a value, a long digest shortened."""
    if value is None:
        return "null" if group == "Parameters" else "unknown"
    text = value if isinstance(value, str) else json.dumps(value)
    is_digest = len(text) >= 40 and set(text) <= set("0123456789abcdef-")
    return text[:12] if is_digest else text


def _show_results(results: list[Result], runs: list[Run], everything: bool) -> None:
    heading = "\n" + click.style("Results", bold=True)
    missing = [run.name for run in runs if not run.rows]
    if missing:
        click.echo(
            f"{heading}: {' and '.join(missing)} was not evaluated: "
            "`kedro run --pipeline=evaluate` does."
        )
        return
    extractor = runs[0].rows[0].extractor
    shown = [r for r in results if everything or _is_shown(r, extractor)]
    if not shown:
        click.echo(f"{heading}: no value is of both.")
        return
    click.echo(f"{heading}:")
    rows = table("model", "nfe", "metric", "A", "B", "B less A", "verdict")
    for result in shown:
        rows.add_row(*_cells(result))
    console().print(rows)
    _explain(shown, runs)


def _is_shown(result: Result, extractor: str) -> bool:
    """Return whether a value is one of the few that most people want."""
    return (
        result.model in MODELS
        and result.extractor == extractor
        and result.metric.endswith(SHOWN)
    )


def _cells(result: Result) -> list[str | Text]:
    return [
        model_name(result.model, 0),
        str(result.nfe),
        f"{metric_name(result.metric)}, {result.extractor}",
        *map(value_text, result.values, result.stds),
        f"{result.difference:+.3g}" if result.is_comparable else "",
        _verdict(result),
    ]


def _verdict(result: Result) -> str | Text:
    """Return in words what a difference says."""
    if not result.is_comparable:
        return Text("made differently", style="yellow")
    if result.better is None:
        return "equal"
    if result.is_beyond_noise is None:
        return f"{result.better} is better; of one seed"
    if not result.is_beyond_noise:
        return "within the noise"
    return Text(f"{result.better} is better", style="bold")


def _explain(results: list[Result], runs: list[Run]) -> None:
    """Say what a verdict means, and where values cannot be compared what was done otherwise."""
    if any(result.is_comparable for result in results):
        console().print(
            "\nnfe: network evaluations. Within the noise: less than two standard deviations of "
            "the difference, over seeds of noise; what another seed of training would do is not in "
            "them."
        )
    unequal = {r.protocols for r in results if not r.is_comparable}
    for protocols in sorted(unequal):
        click.echo("\nValues that were made differently cannot be compared:")
        for letter, run, protocol in zip("AB", runs, protocols, strict=True):
            row = next(row for row in run.rows if row.protocol == protocol)
            digest = row.extractor_digest[:8]
            click.echo(f"  {letter}  {headline_of(row)}, extractor {digest}")
