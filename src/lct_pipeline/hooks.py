"""Run-level concerns: parameters at the door, threads, and the record of a run."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

from kedro.config import MissingConfigException
from kedro.framework.hooks import hook_impl

from lct_pipeline.errors import ParameterError
from lct_pipeline.parameters import Parameters, check_parameters
from lct_pipeline.runs.mlflow_store import log_run, open_store
from lct_pipeline.runs.reading import Run
from lct_pipeline.runs.record import (
    content_digests,
    from_outside,
    new_record,
    now,
    peak_memory_mib,
)

logger = logging.getLogger(__name__)


class ParameterHook:
    """Refuses unknown, missing and wrong parameters before any node runs."""

    @hook_impl
    def after_context_created(self, context: Any) -> None:
        """Check all groups, whichever pipeline is going to run."""
        _checked(context)


class RuntimeHook:
    """Sets the number of CPU threads on purpose."""

    _num_threads = 0

    @hook_impl
    def after_context_created(self, context: Any) -> None:
        """Keep the number that was asked for."""
        self._num_threads = _checked(context).runtime.num_threads

    @hook_impl
    def before_pipeline_run(self) -> None:
        """Two busy processes with two threads each on two cores are ten times slower."""
        from lct_pipeline.models.device import limit_threads

        limit_threads(self._num_threads or os.cpu_count() or 1)


class RunRecordHook:
    """Writes down once what ran: code, parameters, versions, device, digests, seconds and memory.

    The record is saved again after each node, so that a killed run has one too. While it grows, no
    other process works on the same run.
    """

    def __init__(self) -> None:
        self._record: dict[str, Any] = {}
        self._node_started = 0.0
        self._project_path = Path.cwd()
        self._parameters: Parameters | None = None
        self._outside: set[str] = set()
        self._lock: Any = None

    @hook_impl
    def after_context_created(self, context: Any) -> None:
        """Keep what the record says about the code and the parameters."""
        self._project_path = Path(context.project_path)
        self._parameters = _checked(context)
        self._record = {}

    @hook_impl
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Any, catalog: Any
    ) -> None:
        """Begin the record."""
        if self._parameters is None:
            return
        self._outside = from_outside(pipeline)
        self._hold(catalog)
        self._record = new_record(run_params, self._parameters, self._project_path)
        self._save(catalog)

    @hook_impl
    def before_node_run(self) -> None:
        """Start the clock of a node."""
        self._node_started = time.perf_counter()

    @hook_impl
    def after_node_run(self, node: Any, catalog: Any) -> None:
        """Note a node's time; for a streaming node this is the time until its stream starts."""
        if self._record:
            self._record["nodes"].append(
                {"node": node.name, "seconds": 0.0, "peak_memory_mib": 0}
            )
            self._update_last()
            self._note_inputs(node.inputs, catalog)
            self._save(catalog)

    @hook_impl
    def after_dataset_saved(self) -> None:
        """Streaming nodes do their work between saves: bring the last node up to date."""
        self._update_last()

    def _update_last(self) -> None:
        if self._record.get("nodes"):
            elapsed = round(time.perf_counter() - self._node_started, 2)
            self._record["nodes"][-1].update(
                seconds=elapsed, peak_memory_mib=peak_memory_mib()
            )

    @hook_impl
    def after_pipeline_run(self, pipeline: Any, catalog: Any) -> None:
        """End the record of a finished run."""
        self._end("finished", None, pipeline, catalog)

    @hook_impl
    def on_pipeline_error(self, error: Exception, pipeline: Any, catalog: Any) -> None:
        """End the record of a failed run."""
        self._end("failed", f"{type(error).__name__}: {error}", pipeline, catalog)

    def _end(self, status: str, error: str | None, pipeline: Any, catalog: Any) -> None:
        if not self._record:
            return
        self._record.update(
            status=status,
            error=error,
            ended=now(),
            outputs=content_digests(catalog, pipeline.all_outputs()),
        )
        self._save(catalog)
        self._release()

    def _note_inputs(self, names: list[str], catalog: Any) -> None:
        """Note what came from outside, once a node has used it."""
        new = self._outside.intersection(names) - self._record["inputs"].keys()
        self._record["inputs"] |= content_digests(catalog, new)

    def _hold(self, catalog: Any) -> None:
        self._release()
        records = catalog.get("run_records")
        if hasattr(records, "hold"):
            self._lock = records.hold()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
        self._lock = None

    def _save(self, catalog: Any) -> None:
        if "run_records" in catalog:  # not so in tests of single stages
            catalog.save("run_records", self._record)


class MLflowHook:
    """Logs a run to MLflow when it ends, where ``runtime.mlflow`` says so.

    MLflow is opened before anything runs: one that is not there ends the run before the work.
    """

    _run: Run | None = None

    @hook_impl
    def after_context_created(self, context: Any) -> None:
        """Keep which run this is, if it is to be logged."""
        self._run = None
        if _checked(context).runtime.mlflow:
            name = context.config_loader.run_name()
            self._run = Run(name, Path(context.project_path))

    @hook_impl
    def before_pipeline_run(self) -> None:
        """Find out whether MLflow can be used."""
        if self._run is not None:
            open_store()

    @hook_impl(trylast=True)  # the record ends first
    def after_pipeline_run(self) -> None:
        """Log a finished run."""
        self._log()

    @hook_impl(trylast=True)
    def on_pipeline_error(self) -> None:
        """Log a failed run; the error that made it fail is the one to be seen."""
        try:
            self._log()
        except Exception:
            logger.exception("The failed run was not logged to MLflow.")

    def _log(self) -> None:
        if self._run is not None:
            log_run(self._run)


def _checked(context: Any) -> Parameters:
    """Return the parameters; ``context.params`` would let Kedro's own check speak first."""
    try:
        values = context.config_loader["parameters"]
    except MissingConfigException as error:
        raise ParameterError(
            f"{error}. Run from the project's folder, with --env naming a folder of conf/."
        ) from error
    return check_parameters(values)
