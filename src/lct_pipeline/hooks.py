"""Run-level concerns: parameters at the door, threads, and the record of a run."""

from __future__ import annotations

import logging
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kedro.config import MissingConfigException
from kedro.framework.hooks import hook_impl

from lct_pipeline.errors import ParameterError
from lct_pipeline.parameters import Parameters, check_parameters, parameters_digest

logger = logging.getLogger(__name__)

RECORDED_VERSIONS = (
    "kedro",
    "torch",
    "diffusers",
    "POT",
    "numpy",
    "scipy",
    "Pillow",
    "clean-fid",
)


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
    """Writes down once what ran: code, parameters, versions, seconds and memory by node."""

    def __init__(self) -> None:
        self._nodes: list[dict[str, Any]] = []
        self._started = 0.0
        self._project_path = Path.cwd()
        self._parameters: Parameters | None = None

    @hook_impl
    def after_context_created(self, context: Any) -> None:
        """Keep what the record says about the code and the parameters."""
        self._project_path = Path(context.project_path)
        self._parameters = _checked(context)
        self._nodes = []

    @hook_impl
    def before_node_run(self) -> None:
        """Start the clock of a node."""
        self._started = time.perf_counter()

    @hook_impl
    def after_node_run(self, node: Any) -> None:
        """Note a node's time; for a streaming node this is the time until its stream starts."""
        self._nodes.append({"node": node.name, "seconds": 0.0, "peak_memory_mib": 0})
        self._update_last()

    @hook_impl
    def after_dataset_saved(self) -> None:
        """Streaming nodes do their work between saves: bring the last node up to date."""
        self._update_last()

    def _update_last(self) -> None:
        if self._nodes:
            elapsed = round(time.perf_counter() - self._started, 2)
            self._nodes[-1].update(seconds=elapsed, peak_memory_mib=peak_memory_mib())

    @hook_impl
    def after_pipeline_run(self, run_params: dict[str, Any], catalog: Any) -> None:
        """Save the record of a finished run."""
        self._save(run_params, catalog, error=None)

    @hook_impl
    def on_pipeline_error(
        self, error: Exception, run_params: dict[str, Any], catalog: Any
    ) -> None:
        """Save the record of a failed run."""
        self._save(run_params, catalog, error=f"{type(error).__name__}: {error}")

    def _save(
        self, run_params: dict[str, Any], catalog: Any, error: str | None
    ) -> None:
        if "run_record" not in catalog or self._parameters is None:
            return  # a run on a catalog of its own, as in tests of single stages
        values = self._parameters.model_dump()
        record = {
            "error": error,
            "pipelines": run_params.get("pipeline_names"),
            "started": run_params.get("run_id"),
            **code_state(self._project_path),
            "parameters": values,
            "parameters_digest": parameters_digest(values),
            "python": platform.python_version(),
            "versions": {name: version(name) for name in RECORDED_VERSIONS},
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            "nodes": self._nodes,
        }
        catalog.save("run_record", record)


def _checked(context: Any) -> Parameters:
    """Return the parameters; ``context.params`` would let Kedro's own check speak first."""
    try:
        values = context.config_loader["parameters"]
    except MissingConfigException as error:
        raise ParameterError(
            f"{error}. Run from the project's folder, with --env naming a folder of conf/."
        ) from error
    return check_parameters(values)


def peak_memory_mib() -> int:
    """Return the largest memory that this process has held so far, in MiB; 0 where unknown."""
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))


def code_state(project_path: Path) -> dict[str, Any]:
    """Return the commit and whether tracked files differ from it; None without git."""

    def git(*words: str) -> str | None:
        command = ["git", "-C", str(project_path), *words]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    status = git("status", "--porcelain", "--untracked-files=no")
    return {
        "commit": git("rev-parse", "HEAD"),
        "dirty": None if status is None else bool(status),
    }
