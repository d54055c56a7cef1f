"""Runs in MLflow: logged from their own records, when they end or at any time later.

Kedro's plug-in for MLflow is not used: it logs typed parameters as one text each, which cannot be
searched, and it slows every command. Here the parameters are logged one by one, and MLflow is
imported where it is asked for alone. Where runs go is said by MLflow's own variables:
``MLFLOW_TRACKING_URI``, and ``MLFLOW_EXPERIMENT_NAME`` (else ``lct_pipeline``).
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from lct_pipeline.errors import UserError
from lct_pipeline.runs.reading import Run
from lct_pipeline.runs.tracking import Points, Tracked, tracked

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "lct_pipeline"
IDENTITY = "lct.identity"
MAX_VALUE = 5000  # characters of a parameter or tag; MLflow refuses longer ones
BATCH = 100  # of parameters or tags that MLflow takes in one call; of metrics it takes 1,000


def _mlflow() -> Any:
    """Return MLflow, which takes seconds to import and need not be installed."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        import mlflow
    except ImportError as error:
        raise UserError(
            "MLflow is not installed: pip install 'lct_pipeline[mlflow]'."
        ) from error
    return mlflow


def open_store() -> tuple[MlflowClient, str]:
    """Return MLflow's client and the experiment that runs go to.

    Raises:
        UserError: MLflow is not installed, or cannot be reached.
    """
    mlflow = _mlflow()
    client = mlflow.MlflowClient()
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
    try:
        found = client.get_experiment_by_name(name)
        return client, found.experiment_id if found else client.create_experiment(name)
    except mlflow.MlflowException as error:
        raise UserError(
            f"MLflow at {mlflow.get_tracking_uri()} cannot be used: {error}. "
            "MLFLOW_TRACKING_URI says where it is."
        ) from error


def log_run(run: Run) -> str:
    """Log a run, or bring up to date what was logged of it; return MLflow's id of it.

    Raises:
        UserError: MLflow is not installed, cannot be reached, or refuses.
    """
    client, experiment = open_store()
    try:
        return _log(client, experiment, tracked(run))
    except _mlflow().MlflowException as error:
        raise UserError(
            f"MLflow refused the run {run.name}: {error}. Its results are saved; "
            f"`kedro lct mlflow {run.name}` logs it again."
        ) from error


def _log(client: MlflowClient, experiment: str, entry: Tracked) -> str:
    run_id = _find(client, experiment, entry) or _create(client, experiment, entry)
    _log_texts(client, run_id, entry)
    _log_metrics(client, run_id, entry)
    for path, folder in entry.artifacts:
        client.log_artifact(run_id, str(path), folder)
    client.set_terminated(run_id, entry.status, entry.ended)
    return run_id


def _find(client: MlflowClient, experiment: str, entry: Tracked) -> str | None:
    found = client.search_runs([experiment], f"tags.`{IDENTITY}` = '{entry.identity}'")
    return found[0].info.run_id if found else None


def _create(client: MlflowClient, experiment: str, entry: Tracked) -> str:
    made = client.create_run(
        experiment,
        start_time=entry.started,
        tags={IDENTITY: entry.identity, "mlflow.source.name": "kedro run"},
        run_name=entry.name,
    )
    return made.info.run_id


def _log_texts(client: MlflowClient, run_id: str, entry: Tracked) -> None:
    entities = _mlflow().entities
    parameters = [entities.Param(k, v[:MAX_VALUE]) for k, v in entry.parameters.items()]
    tags = [entities.RunTag(k, v[:MAX_VALUE]) for k, v in entry.tags.items()]
    for some in _batches(parameters, BATCH):
        client.log_batch(run_id, params=some)
    for some in _batches(tags, BATCH):
        client.log_batch(run_id, tags=some)


def _log_metrics(client: MlflowClient, run_id: str, entry: Tracked) -> None:
    """Log what is new: MLflow would keep a figure that is logged twice twice."""
    new_metric = _mlflow().entities.Metric
    known = client.get_run(run_id).data.metrics
    now = round(time.time() * 1000)
    new = [
        new_metric(name, value, now, 0)
        for name, value in entry.metrics.items()
        if known.get(name) != value
    ]
    for name, points in entry.histories.items():
        last = _last_step(client, run_id, name) if name in known else -1
        new += [new_metric(name, v, entry.started, s) for s, v in _after(points, last)]
    for some in _batches(new, 10 * BATCH):
        client.log_batch(run_id, metrics=some)


def _last_step(client: MlflowClient, run_id: str, name: str) -> int:
    return max(metric.step for metric in client.get_metric_history(run_id, name))


def _after(points: Points, step: int) -> Points:
    return [point for point in points if point[0] > step]


def _batches(items: list[Any], size: int) -> list[list[Any]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
