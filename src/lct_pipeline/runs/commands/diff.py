"""``kedro lct diff A B``: how two runs differ."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from lct_pipeline.reporting.words import metric_name, model_name
from lct_pipeline.runs.commands.runs import project_folder
from lct_pipeline.runs.commands.tables import console, figure, table
from lct_pipeline.runs.diff import compare
from lct_pipeline.runs.reading import find_run
from lct_pipeline.runs.summary import MODELS, headline_of

if TYPE_CHECKING:
    from lct_pipeline.runs.diff import Comparison, Differences, Result
    from lct_pipeline.runs.reading import Run

SHOWN = ("_frechet_distance", "fid", "precision", "recall")


@click.command()
@click.argument("a")
@click.argument("b")
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="All figures: of controls and of further extractors too.",
)
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object.")
def diff(a: str, b: str, everything: bool, as_json: bool) -> None:
    """Say how run B differs from run A: parameters, data, code and results."""
    project = project_folder()
    first, second = find_run(project, a), find_run(project, b)
    comparison = compare(first, second)
    if as_json:
        click.echo(json.dumps(asdict(comparison), indent=1))
        return
    for letter, run in (("A", first), ("B", second)):
        click.echo(f"{letter}  {run.name}, {run.started[:10]}, {run.status}")
    _show_inputs(comparison, first)
    _show_results(comparison.results, first, second, everything)


def _show_inputs(found: Comparison, a: Run) -> None:
    _show_group("Parameters", found.parameters)
    if found.runtime:
        _show_group("Runtime, on which no result depends", found.runtime)
    _show_group("Data", found.data, _images(a))
    _show_group("Code", found.code, _commit(a))
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
    click.echo()
    if not pairs:
        click.echo(f"{_bold(title)}: equal" + (f" ({about})" if about else ""))
        return
    click.echo(f"{_bold(title)}: {len(pairs)} differ{'s' if len(pairs) == 1 else ''}")
    width = max(len(name) for name in pairs)
    for name, (old, new) in pairs.items():
        texts = [_text(value, title) for value in (old, new)]
        click.echo(f"  {name:{width}}  {' -> '.join(texts)}")


def _show_results(results: list[Result], a: Run, b: Run, everything: bool) -> None:
    click.echo()
    missing = [run.name for run in (a, b) if not run.rows]
    if missing:
        click.echo(
            f"{_bold('Results')}: {' and '.join(missing)} was not evaluated: "
            "`kedro run --pipeline=evaluate` does."
        )
        return
    extractor = a.rows[0].extractor
    shown = [r for r in results if everything or _is_shown(r, extractor)]
    if not shown:
        click.echo(f"{_bold('Results')}: no figure is of both.")
        return
    click.echo(f"{_bold('Results')}:")
    _print_results(shown)
    _explain(shown, a, b)


def _is_shown(result: Result, extractor: str) -> bool:
    """Return whether a figure is of the few that most people want."""
    return (
        result.model in MODELS
        and result.extractor == extractor
        and result.metric.endswith(SHOWN)
    )


def _print_results(results: list[Result]) -> None:
    rows = table(
        model="left",
        nfe="right",
        figure="left",
        A="left",
        B="left",
        B_less_A="right",
        verdict="left",
    )
    for result in results:
        both = zip(result.values, result.stds, strict=True)
        less = f"{result.difference:+.3g}" if result.is_comparable else ""
        rows.add_row(
            model_name(result.model, 0),
            str(result.nfe),
            _title(result),
            *(figure(value, std) for value, std in both),
            less,
            _verdict(result),
        )
    console().print(rows)


def _title(result: Result) -> str:
    """Return the metric, and by whose features."""
    return f"{metric_name(result.metric)}, {result.extractor}"


def _verdict(result: Result) -> Any:
    """Return in words what a difference says."""
    if not result.is_comparable:
        return Text("made differently", style="yellow")
    if result.better is None:
        return "equal"
    if result.is_beyond_spread is None:
        return f"{result.better} is better; no spread known"
    if not result.is_beyond_spread:
        return "within the spread"
    return Text(f"{result.better} is better", style="bold")


def _explain(results: list[Result], a: Run, b: Run) -> None:
    """Say what a verdict means, and where figures cannot be compared what was done otherwise."""
    click.echo()
    if any(result.is_comparable for result in results):
        console().print(
            "nfe: network evaluations. The spread of a difference is two of its standard "
            "deviations over seeds of noise; what another seed of training would do is not in it."
        )
    unequal = {r.protocols for r in results if not r.is_comparable}
    for protocols in sorted(unequal):
        click.echo("Figures that were made differently cannot be compared:")
        for letter, run, protocol in zip("AB", (a, b), protocols, strict=True):
            click.echo(f"  {letter}  {_headline(run, protocol)}")


def _headline(run: Run, protocol: str) -> str:
    row = next(row for row in run.rows if row.protocol == protocol)
    return f"{headline_of(row)}, extractor {row.extractor_digest[:8]}"


def _images(run: Run) -> str:
    counts = (f"{count:,} {name}" for name, count in run.images_by_split().items())
    return " + ".join(counts)


def _commit(run: Run) -> str:
    commit = run.last.get("commit")
    dirty = ", with changes that are not committed" if run.last.get("dirty") else ""
    return f"commit {commit[:10]}{dirty}" if commit else "no commit known"


def _text(value: Any, group: str) -> str:
    """Return a value, a long digest shortened."""
    if value is None:
        return "null" if group == "Parameters" else "unknown"
    text = value if isinstance(value, str) else json.dumps(value)
    is_digest = len(text) >= 40 and all(c in "0123456789abcdef-" for c in text)
    return text[:12] if is_digest else text


def _bold(text: str) -> str:
    return click.style(text, bold=True)
