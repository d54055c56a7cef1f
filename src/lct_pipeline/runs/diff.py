"""``kedro lct diff A B``: how two runs differ, in parameters, data, code, versions and results."""

from __future__ import annotations

import json
import math
import subprocess
from dataclasses import asdict, dataclass
from typing import Any

import click
from rich.text import Text

from lct_pipeline.datasets.results import EvaluationRow
from lct_pipeline.parameters import differences
from lct_pipeline.plain_text import printable
from lct_pipeline.reporting.words import metric_name, model_name, value_text
from lct_pipeline.runs.listing import MODELS, console, headline_of, table
from lct_pipeline.runs.reading import (
    Run,
    find_run,
    project_folder,
    tell_problems,
)

Differences = dict[str, tuple[Any, Any]]  # by dotted name, what differs alone

LOWER_IS_BETTER = ("fid", "kid", "_frechet_distance", "_kernel_distance", "_infinity")
SHOWN = ("_frechet_distance", "fid", "precision", "recall")
TOO_FEW = 2.0  # standard deviations of a difference that chance often makes


@dataclass(frozen=True)
class Result:
    """One value of both runs.

    Args:
        model: Which model, or which control.
        nfe: Number of network evaluations.
        metric: Which metric.
        extractor: Whose features it is of.
        values: Of A and B.
        stds: Over seeds of noise, None where there is one seed.
        protocols: How they were made.
    """

    model: str
    nfe: int
    metric: str
    extractor: str
    values: tuple[float, float]
    stds: tuple[float | None, float | None]
    protocols: tuple[str, str]

    @property
    def is_comparable(self) -> bool:
        """Whether both values were made in the same way."""
        return self.protocols[0] == self.protocols[1]

    @property
    def difference(self) -> float:
        """B less A."""
        return self.values[1] - self.values[0]

    @property
    def is_beyond_noise(self) -> bool | None:
        """Whether the difference is more than two of its standard deviations.

        They are over seeds of noise of one training each: what another seed of training would do
        is not in them. None where there are none.
        """
        first, second = self.stds
        if first is None or second is None:
            return None
        return abs(self.difference) > TOO_FEW * math.hypot(first, second)

    @property
    def better(self) -> str | None:
        """``A`` or ``B``; None where they are equal."""
        if self.difference == 0:
            return None
        lower = self.metric.endswith(LOWER_IS_BETTER)
        return "B" if (self.difference < 0) == lower else "A"


@dataclass(frozen=True)
class Comparison:
    """How run B differs from run A; each group holds what differs alone.

    Args:
        parameters: Those that results depend on, by dotted name.
        runtime: Those that none depends on.
        data: Fingerprint of the source and number of images by split, where both are known.
        code: Commit, and whether tracked files differed from it.
        changes: What git says between the commits, in ``src`` and ``conf``; None where one of them
            is not in this repository.
        versions: Of the libraries.
        device: Device and machine.
        results: Values that both have.
    """

    parameters: Differences
    runtime: Differences
    data: Differences
    code: Differences
    changes: list[str] | None
    versions: Differences
    device: Differences
    results: list[Result]


def compare(a: Run, b: Run) -> Comparison:
    """Return how run B differs from run A."""

    def among(*keys: str) -> Differences:
        first, second = (
            {key: getattr(run.last, key, None) for key in keys} for run in (a, b)
        )
        return differences(first, second)

    first, second = ({**run.parameters} for run in (a, b))
    runtime = differences(first.pop("runtime", {}), second.pop("runtime", {}))
    parameters = differences(first, second)
    parameters.pop("run_id", None)
    libraries = (run.last.versions if run.last else {} for run in (a, b))
    images = (
        {"fingerprint": run.fingerprint, "images": run.images_by_split()}
        for run in (a, b)
    )
    return Comparison(
        parameters=parameters,
        runtime={f"runtime.{name}": pair for name, pair in runtime.items()},
        # an interrupted run does not know all of it
        data={
            name: pair
            for name, pair in differences(*images).items()
            if None not in pair
        },
        code=among("commit", "dirty"),
        changes=_changes(a, b),
        versions={**among("python"), **differences(*libraries)},
        device=among("device", "machine"),
        results=results(a.rows, b.rows),
    )


def results(a: list[EvaluationRow], b: list[EvaluationRow]) -> list[Result]:
    """Return the values that both runs have, those of the trained models first."""

    def key(row: EvaluationRow) -> tuple[Any, ...]:
        return row.model, row.nfe, row.metric, row.extractor, row.reference

    others = {key(row): row for row in b}
    found = [
        Result(
            model=one.model,
            nfe=one.nfe,
            metric=one.metric,
            extractor=one.extractor,
            values=(one.value, other.value),
            stds=(one.std, other.std),
            protocols=(one.protocol, other.protocol),
        )
        for one in a
        if (other := others.get(key(one)))
    ]
    return sorted(found, key=lambda result: result.nfe == 0)


def _changes(a: Run, b: Run) -> list[str] | None:
    """Return git's statistics of what lies between two commits, None where one is not there."""
    first, second = (run.last.commit if run.last else None for run in (a, b))
    if first == second:
        return []
    if first is None or second is None:
        return None
    command = ["git", "-C", str(a.project), "diff", "--stat=90", first, second]
    done = subprocess.run(
        [*command, "--", "src", "conf"], capture_output=True, text=True, check=False
    )
    return done.stdout.splitlines() if done.returncode == 0 else None


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
    tell_problems(runs)
    comparison = compare(*runs)
    if as_json:
        click.echo(json.dumps(asdict(comparison), indent=1))
        return
    for letter, run in zip("AB", runs, strict=True):
        click.echo(printable(f"{letter}  {run.name}, {run.started[:10]}, {run.status}"))
    _show_inputs(comparison, runs[0])
    _show_results(comparison.results, runs, everything)


def _show_inputs(found: Comparison, a: Run) -> None:
    images = (f"{count:,} {name}" for name, count in a.images_by_split().items())
    commit = (a.last.commit if a.last else None) or "unknown"
    is_dirty = a.last is not None and a.last.dirty
    dirty = ", with changes that are not committed" if is_dirty else ""
    _show_group("Parameters", found.parameters)
    if found.runtime:
        _show_group("Runtime, on which no result depends", found.runtime)
    _show_group("Data", found.data, " + ".join(images))
    _show_group("Code", found.code, f"commit {commit[:10]}{dirty}")
    _show_changes(found)
    _show_group("Versions", found.versions)
    _show_group("Device", found.device, a.last.device if a.last else "")


def _show_changes(found: Comparison) -> None:
    """Say what git knows of the difference between the commits."""
    if "commit" not in found.code:
        return
    if found.changes is None:
        click.echo("  not both commits are in this repository")
    elif not found.changes:
        click.echo("  nothing differs in src and conf between the commits")
    for line in found.changes or []:
        click.echo(f"  {printable(line.strip())}")
    if any(found.code.get("dirty", (False, False))):
        click.echo(
            "  dirty: files were changed and not committed, which git does not show"
        )


def _show_group(title: str, pairs: Differences, about: str = "") -> None:
    """Print what differs, or in one line that nothing does."""
    heading = click.style(title, bold=True)
    if not pairs:
        said = f" ({printable(about)})" if about else ""
        click.echo(f"\n{heading}: equal{said}")
        return
    click.echo(f"\n{heading}: {len(pairs)} differ{'s' if len(pairs) == 1 else ''}")
    width = max(map(len, pairs))
    for name, values in pairs.items():
        old, new = (_text(value, title) for value in values)
        click.echo(printable(f"  {name:{width}}  {old} -> {new}"))


def _text(value: Any, group: str) -> str:
    """Return a value, a long digest shortened."""
    if value is None:
        return "null" if group == "Parameters" else "unknown"
    text = value if isinstance(value, str) else json.dumps(value)
    is_digest = len(text) >= 40 and set(text) <= set("0123456789abcdef-")
    return text[:12] if is_digest else text


def _show_results(results: list[Result], runs: list[Run], everything: bool) -> None:
    heading = "\n" + click.style("Results", bold=True)
    missing = [run for run in runs if not run.rows]
    for run in missing:
        how = run.command("evaluate")
        click.echo(f"{heading}: {printable(run.name)} was not evaluated: {how} does.")
    if missing:
        return
    extractor = runs[0].rows[0].extractor
    shown = [r for r in results if everything or _is_shown(r, extractor)]
    if not shown:
        click.echo(f"{heading}: no value is of both.")
        return
    click.echo(f"{heading}:")
    rows = table("model", "nfe", "metric", "A", "B", "B less A", "verdict")
    for result in shown:
        rows.add_row(
            printable(model_name(result.model, 0)),
            str(result.nfe),
            printable(f"{metric_name(result.metric)}, {result.extractor}"),
            *map(value_text, result.values, result.stds),
            f"{result.difference:+.3g}" if result.is_comparable else "",
            _verdict(result),
        )
    console().print(rows)
    _explain(shown, runs)


def _is_shown(result: Result, extractor: str) -> bool:
    """Return whether a value is one of the few that most people want."""
    return (
        result.model in MODELS
        and result.extractor == extractor
        and result.metric.endswith(SHOWN)
    )


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
            said = f"{headline_of(row)}, extractor {row.extractor_digest[:8]}"
            click.echo(f"  {letter}  {printable(said)}")
