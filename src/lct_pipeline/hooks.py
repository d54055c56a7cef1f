"""What surrounds a run: parameters at the door, threads, its record, and MLflow."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io.core import generate_timestamp

from lct_pipeline.commands import remember
from lct_pipeline.core.curriculum import curriculum
from lct_pipeline.parameters import Training
from lct_pipeline.plain_text import PlainRecord
from lct_pipeline.runs.announcement import announce, outcome
from lct_pipeline.runs.mlflow_store import log_run, opened
from lct_pipeline.runs.reading import Run, check_version
from lct_pipeline.runs.record import (
    content_digests,
    cpu_seconds,
    from_outside,
    new_record,
    peak_memory_mib,
)

logger = logging.getLogger(__name__)
logging.setLogRecordFactory(PlainRecord)  # of all libraries too


class RunHook:
    """Checks the parameters, and writes down what ran: code, versions, digests, seconds, memory.

    The record is saved again after each node, so that a killed run has one too. While it grows, no
    other process works on the same run. Where ``runtime.mlflow`` says so, the run is logged when it
    ends; MLflow is opened before anything runs, so that one that is not there ends the run first.
    """

    @hook_impl
    def after_context_created(self, context: Any) -> None:
        """Refuse unknown, missing and wrong parameters, whichever pipeline is going to run."""
        self._config = context.config_loader
        self._project = self._config.project = Path(context.project_path)
        if self._config.run_id is not None:
            check_version(Run(self._config.run_id, self._project))
        self._parameters = self._config.checked
        self._name = self._config.run_name()
        remember(self._config.env, self._config.runtime_params or {})
        check_version(Run(self._name, self._project))

    @hook_impl
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Any, catalog: Any
    ) -> None:
        """Refuse what is not of this run, then begin its record."""
        from lct_pipeline.models import device
        from lct_pipeline.runs import door, identity

        # two busy processes with two threads each on two cores are ten times slower
        device.limit_threads(
            self._parameters.runtime.num_threads or os.cpu_count() or 1
        )
        if self._parameters.runtime.mlflow:
            with opened():
                pass
        if any(node.namespace == "training" for node in pipeline.nodes):
            _check_curriculum(self._parameters.training)
        self._is_run = "comparison" not in pipeline.all_outputs()
        self._identity = identity.Identity(self._config, pipeline, catalog)
        self._identity.refuse_unnamed()
        if not run_params.get("only_missing_outputs"):
            door.check_given(self._parameters, pipeline, catalog)
        if self._is_run:
            self._identity.check()
        self._outside = from_outside(pipeline)
        records = "run_records" if self._is_run else "comparison_records"
        self._records = catalog.get(records)
        work = ", ".join(run_params.get("pipeline_names") or ["__default__"])
        self._lock = self._records.hold(self._parameters.runtime.wait_minutes, work)
        described = device.describe_device(self._parameters.runtime.device)
        self._record = new_record(
            run_params, self._parameters, self._project, described
        )
        self._records.save(self._record)
        runtime = self._parameters.runtime
        if advice := device.advice_on_gpus(runtime.device, runtime.num_processes):
            logger.warning("%s", advice)
        missing = bool(run_params.get("only_missing_outputs"))
        announce(self._name, self._parameters, pipeline, catalog, only_missing=missing)

    @hook_impl
    def before_node_run(self) -> None:
        """Start the clocks of a node."""
        self._node_started, self._cpu_before = time.perf_counter(), cpu_seconds()

    @hook_impl
    def after_node_run(self, node: Any, catalog: Any) -> None:
        """Note a node; for a streaming one this is when its stream starts."""
        self._record["nodes"].append({"node": node.name})
        self._note_costs()
        new = self._outside.intersection(node.inputs) - self._record["inputs"].keys()
        self._record["inputs"] |= content_digests(catalog, new)
        self._records.save(self._record)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Note costs, for streaming nodes work between saves; refuse images of another run."""
        self._note_costs()
        if dataset_name == "image_manifest":
            self._identity.check_images(data)

    def _note_costs(self) -> None:
        """Bring seconds and memory of the last node up to date."""
        self._record["nodes"][-1].update(
            seconds=round(time.perf_counter() - self._node_started, 2),
            cpu_seconds=round(cpu_seconds() - self._cpu_before, 2),
            peak_memory_mib=peak_memory_mib(),
        )

    @hook_impl
    def after_pipeline_run(self, pipeline: Any, catalog: Any) -> None:
        """End the record of a finished run, and log it."""
        self._end("finished", None, pipeline, catalog)
        self._log()
        if self._is_run:
            nodes, made = self._record["nodes"], pipeline.all_outputs()
            logger.info("%s", outcome(self._name, nodes, made))

    @hook_impl
    def on_pipeline_error(self, error: Exception, pipeline: Any, catalog: Any) -> None:
        """End the record of a failed run; the error that made it fail is the one to be seen."""
        self._end("failed", f"{type(error).__name__}: {error}", pipeline, catalog)
        try:
            self._log()
        except Exception:
            logger.exception("The failed run was not logged to MLflow.")

    def _end(self, status: str, error: str | None, pipeline: Any, catalog: Any) -> None:
        outputs = content_digests(catalog, pipeline.all_outputs())
        self._record.update(
            status=status, error=error, ended=generate_timestamp(), outputs=outputs
        )
        self._records.save(self._record)
        self._lock.release()

    def _log(self) -> None:
        if self._parameters.runtime.mlflow and self._is_run:
            log_run(Run(self._name, self._project))


def _check_curriculum(training: Training) -> None:
    """Warn where the formula of iCT's curriculum does not end at s1."""
    noise, num_steps = training.noise, training.num_steps
    if training.objective.kind == "diffusion" or noise.schedule == "continuous":
        return
    last = curriculum(num_steps - 1, num_steps=num_steps, s0=noise.s0, s1=noise.s1)
    if last < noise.s1:
        logger.warning(
            "training.noise: in num_steps=%d steps N(k) grows from s0=%d to %d, not to s1=%d: "
            "iCT's formula ends at s1 where that is s0 times a power of two, or floor(s1 / s0) is "
            "none, and there are as many steps as stages.",
            num_steps,
            noise.s0,
            last,
            noise.s1,
        )
