"""What a run's records say, in the words of experiment trackers such as MLflow."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from lct_pipeline.datasets.results import EvaluationRow
from lct_pipeline.errors import UserError
from lct_pipeline.parameters import parameters_digest
from lct_pipeline.runs.diff import flatten
from lct_pipeline.runs.reading import Run, parse_time
from lct_pipeline.runs.summary import recipe_of

ARTIFACTS = (".html", ".png", ".json")
STATUS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
Points = list[tuple[int, float]]  # step and value


@dataclass(frozen=True)
class Tracked:
    """A run as a tracker keeps it.

    Args:
        name: Of the run.
        identity: Stands for its name and parameters: the same is the same entry of the tracker.
        status: In MLflow's words.
        started: Milliseconds since 1970.
        ended: Likewise; None while it runs.
        parameters: Those that results depend on, by dotted name, as JSON says them.
        tags: Recipe, code, data, versions, device, runtime, and digests of what came out.
        metrics: Every figure: its mean over seeds, and its standard deviation.
        histories: Training metrics by step.
        artifacts: Files of the report, with the folder that each goes to.
    """

    name: str
    identity: str
    status: str
    started: int
    ended: int | None
    parameters: dict[str, str]
    tags: dict[str, str]
    metrics: dict[str, float]
    histories: dict[str, Points]
    artifacts: list[tuple[Path, str | None]]


def tracked(run: Run) -> Tracked:
    """Return a run as a tracker keeps it.

    Raises:
        UserError: It has no record: its weights were copied from elsewhere.
    """
    if not run.records:
        raise UserError(
            f"{run.name} has no record of what ran, so there is nothing to log."
        )
    values = {k: v for k, v in run.last["parameters"].items() if k != "runtime"}
    ended = run.last["ended"]
    return Tracked(
        name=run.name,
        identity=f"{run.name}-{parameters_digest(values)}",
        status=STATUS.get(run.status, "RUNNING"),
        started=_milliseconds(run.records[0]["started"]),
        ended=ended and _milliseconds(ended),
        parameters={name: as_text(v) for name, v in flatten(values).items()},
        tags=tags_of(run),
        metrics=metrics_of(run.rows),
        histories=histories_of(run),
        artifacts=artifacts_of(run),
    )


def tags_of(run: Run) -> dict[str, str]:
    """Return what a run is found by, beside its parameters."""
    last = run.last
    about = {
        "recipe": recipe_of(run),
        "dirty": last["dirty"],
        "error": last["error"],
        "python": last["python"],
        "machine": last["machine"],
        "device": last["device"],
        "source_fingerprint": run.newest("inputs", "image_source"),
        "versions": last["versions"],
        "runtime": last["parameters"]["runtime"],
        "outputs": {
            k: v for record in run.records for k, v in record["outputs"].items()
        },
    }
    tags = {f"lct.{name}": as_text(value) for name, value in flatten(about).items()}
    if last["commit"]:
        tags["mlflow.source.git.commit"] = last["commit"]
    return tags


def metrics_of(rows: list[EvaluationRow]) -> dict[str, float]:
    """Return every figure by ``model/evaluations/extractor/metric``, and its spread.

    Figures of the same name are against several references: after the first, they also have the
    digest of their protocol.
    """
    metrics: dict[str, float] = {}
    for row in rows:
        short = row.metric.removeprefix(f"{row.extractor}_")
        name = f"{row.model}/{row.nfe}/{row.extractor}/{short}"
        if name in metrics:
            name = f"{name}/{row.protocol}"
        metrics[name] = row.value
        if row.std is not None:
            metrics[f"{name}_std"] = row.std
    return metrics


def histories_of(run: Run) -> dict[str, Points]:
    """Return the training metrics by step, without what was not finite."""
    from pyarrow import parquet

    folder = run.models / "training_metrics"
    histories: dict[str, dict[int, float]] = {}
    for part in sorted(folder.glob("[!.]*.parquet")):
        columns = parquet.read_table(part).to_pydict()
        steps = columns.pop("step")
        for name, values in columns.items():
            points = zip(steps, values, strict=True)
            known = [(int(s), float(v)) for s, v in points if _is_number(v)]
            histories.setdefault(f"training/{name}", {}).update(known)
    return {name: sorted(found.items()) for name, found in histories.items() if found}


def artifacts_of(run: Run) -> list[tuple[Path, str | None]]:
    """Return the report, the figures, the evaluation and the records."""
    files = sorted(run.reporting.glob("[!.]*"))
    shown = [path for path in files if path.is_file() and path.suffix in ARTIFACTS]
    records = sorted((run.reporting / "records").glob("[!.]*.json"))
    return [*((p, None) for p in shown), *((p, "records") for p in records)]


def as_text(value: Any) -> str:
    """Return a value as one types it: text as it is, the rest as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and isfinite(value)


def _milliseconds(time: str) -> int:
    return round(parse_time(time).timestamp() * 1000)
