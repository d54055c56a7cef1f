"""``kedro lct mlflow``, and runs in MLflow: logged from their own records, as they end or later.

Kedro's plug-in for MLflow is not used: it logs typed parameters as one text each, which cannot be
searched, and it slows every command. Where runs go is said by MLflow's own variables:
``MLFLOW_TRACKING_URI``, and ``MLFLOW_EXPERIMENT_NAME`` (else ``lct_pipeline``).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import Any

import click

from lct_pipeline.datasets.run_records import Record, parse_time
from lct_pipeline.errors import UserError
from lct_pipeline.given_files import regular_file
from lct_pipeline.parameters import flatten, parameters_digest
from lct_pipeline.plain_text import printable
from lct_pipeline.runs.reading import (
    Run,
    find_run,
    find_runs,
    project_folder,
    tell_problems,
)

IDENTITY = "lct.identity"  # stands for name and parameters: the same is the same entry
STATUS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
SHOWN = (".html", ".png", ".json")
TAGGED = {"dirty", "error", "python", "machine", "device", "versions"}
MAX_VALUE = 5000  # characters of a parameter or tag; MLflow refuses longer ones


@click.command()
@click.argument("names", nargs=-1, metavar="[RUN]...")
def mlflow(names: tuple[str, ...]) -> None:
    """Log runs to MLflow, all of them where none is named.

    What was logged before is brought up to date. MLFLOW_TRACKING_URI says where to.
    """
    project = project_folder()
    found = [find_run(project, name) for name in names] or find_runs(project)
    tell_problems(found)
    runs = [run for run in found if run.is_of_this_version and (names or run.records)]
    if not runs:
        raise UserError("There are no runs to log yet: `kedro run` makes one.")
    for run in runs:
        click.echo(printable(f"{run.name}: MLflow run {log_run(run)}"))


@contextmanager
def opened() -> Iterator[tuple[Any, str]]:
    """Yield MLflow, which takes seconds to import and need not be installed, and the experiment.

    Raises:
        UserError: It is not installed, cannot be reached, or refuses.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # it would print the address of a run with user and password
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    try:
        import mlflow
    except ImportError as error:
        raise UserError(
            "MLflow is not installed: pip install 'lct_pipeline[mlflow]'."
        ) from error
    try:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "lct_pipeline")
        yield mlflow, mlflow.set_experiment(name).experiment_id
    except mlflow.MlflowException as error:
        raise UserError(
            f"MLflow at {mlflow.get_tracking_uri()} cannot be used: {error}. MLFLOW_TRACKING_URI "
            "says where it is. A run's results are saved: `kedro lct mlflow <run>` logs them again."
        ) from error


def log_run(run: Run) -> str:
    """Log a run, or bring up to date what was logged of it; return MLflow's id of it.

    Raises:
        UserError: The run has no record, or MLflow does not take it.
    """
    if run.last is None:
        raise UserError(
            f"{run.name} has no record of what ran, so there is nothing to log."
        )
    with opened() as (mlflow, experiment):
        client = mlflow.MlflowClient()
        run_id = _entry(client, experiment, run)
        with mlflow.start_run(run_id):
            mlflow.log_params(texts(parameters_of(run)))
            mlflow.set_tags(tags_of(run, run.last))
            _log_metrics(mlflow, client, run_id, run)
            for folder in (None, "records"):
                for path in shown_files(run.reporting / (folder or "")):
                    mlflow.log_artifact(str(path), folder)
        status = STATUS.get(run.status, "RUNNING")
        client.set_terminated(run_id, status, milliseconds(run.last.ended))
    return run_id


def shown_files(folder: Path) -> list[Path]:
    """Return the files to be logged; a link may lead to what is nobody else's business."""
    files = (path for path in sorted(folder.glob("[!.]*")) if path.suffix in SHOWN)
    return [path for path in files if path.is_file() and not path.is_symlink()]


def _entry(client: Any, experiment: str, run: Run) -> str:
    """Return MLflow's id of a run, made now unless it is there."""
    identity = f"{run.name}-{parameters_digest(parameters_of(run))}"
    found = client.search_runs([experiment], f"tags.`{IDENTITY}` = '{identity}'")
    if found:
        return found[0].info.run_id
    started, tags = milliseconds(run.records[0].started), {IDENTITY: identity}
    made = client.create_run(experiment, started, tags, run_name=run.name)
    return made.info.run_id


def parameters_of(run: Run) -> dict[str, Any]:
    """Return the parameters that results depend on."""
    return {k: v for k, v in run.parameters.items() if k != "runtime"}


def milliseconds(text: str | None) -> int | None:
    """Return a record's time since 1970; None for none."""
    return round(parse_time(text).timestamp() * 1000) if text else None


def texts(values: dict[str, Any]) -> dict[str, str]:
    """Return values by dotted name as one types them: text as it is, the rest as JSON."""
    return {
        name: (value if isinstance(value, str) else json.dumps(value))[:MAX_VALUE]
        for name, value in flatten(values).items()
    }


def tags_of(run: Run, last: Record) -> dict[str, str]:
    """Return what a run is found by, beside its parameters; ``last`` is its last record."""
    outputs = (record.outputs for record in run.records)
    about = {
        "recipe": run.recipe,
        "source_fingerprint": run.fingerprint,
        "runtime": run.parameters["runtime"],
        "outputs": {k: v for found in outputs for k, v in found.items()},
        **last.model_dump(include=TAGGED),
    }
    tags = {f"lct.{name}": text for name, text in texts(about).items()}
    source = {"name": "kedro run", "git.commit": last.commit or "unknown"}
    return tags | {f"mlflow.source.{name}": text for name, text in source.items()}


def _log_metrics(mlflow: Any, client: Any, run_id: str, run: Run) -> None:
    """Log what is new: MLflow would keep a value that is logged twice twice."""
    known = client.get_run(run_id).data.metrics
    points = [(k, v, 0) for k, v in metrics_of(run).items() if known.get(k) != v]
    of_training = [name for name in known if name.startswith("training/")]
    histories = {name: client.get_metric_history(run_id, name) for name in of_training}
    last = {name: max(m.step for m in found) for name, found in histories.items()}
    for step, row in training_rows(run):
        points += [(k, v, step) for k, v in row.items() if step > last.get(k, -1)]
    now = round(time.time() * 1000)
    new = [mlflow.entities.Metric(k, v, now, step) for k, v, step in points]
    client.log_batch(run_id, metrics=new)


def metrics_of(run: Run) -> dict[str, float]:
    """Return every value by ``model/evaluations/extractor/metric``, and its standard deviation.

    Values of the same name are against several references: after the first, they also have the
    digest of their protocol.
    """
    metrics: dict[str, float] = {}
    for row in run.rows:
        short = row.metric.removeprefix(f"{row.extractor}_")
        name = f"{row.model}/{row.nfe}/{row.extractor}/{short}"
        if name in metrics:
            name = f"{name}/{row.protocol}"
        metrics[name] = row.value
        if row.std is not None:
            metrics[f"{name}_std"] = row.std
    return metrics


def training_rows(run: Run) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield the training metrics of each step, without what is no finite number."""
    from pyarrow import parquet

    folder = run.models / "training_metrics"
    for part in sorted(folder.glob("[!.]*.parquet")):
        for row in parquet.read_table(regular_file(part)).to_pylist():
            step = row.pop("step")
            numbers = {k: v for k, v in row.items() if isinstance(v, int | float)}
            yield step, {f"training/{k}": v for k, v in numbers.items() if isfinite(v)}
