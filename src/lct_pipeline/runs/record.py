"""The record of a run: code, parameters, versions, device, and digests of what went in and out."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lct_pipeline.parameters import Parameters, parameters_digest

RECORDED_VERSIONS = (
    "lct_pipeline",
    "kedro",
    "torch",
    "diffusers",
    "POT",
    "numpy",
    "scipy",
    "Pillow",
    "clean-fid",
)


def new_record(
    run_params: dict[str, Any],
    parameters: Parameters,
    project_path: Path,
    device: str,
) -> dict[str, Any]:
    """Return the record of a run that begins.

    Args:
        run_params: Kedro's description of the session.
        parameters: All parameters.
        project_path: Folder whose commit is recorded.
        device: Description of the device.
    """
    values = parameters.model_dump(mode="json")
    return {
        "status": "running",
        "error": None,
        "started": run_params["run_id"],
        "ended": None,
        "pipelines": run_params.get("pipeline_names") or ["__default__"],
        "namespaces": list(run_params.get("namespaces") or ()),
        "env": run_params.get("env"),
        "process": os.getpid(),
        "schedule": json.loads(os.environ.get("LCT_SCHEDULE", "null")),
        **code_state(project_path),
        "parameters": values,
        "parameters_digest": parameters_digest(values),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in RECORDED_VERSIONS},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "device": device,
        "inputs": {},
        "outputs": {},
        "nodes": [],
    }


def from_outside(pipeline: Any) -> set[str]:
    """Return a pipeline's inputs, without what it looks for of its own, to go on from there."""
    return {n for n in pipeline.inputs() if not n.startswith("previous_")}


def content_digests(catalog: Any, names: Iterable[str]) -> dict[str, str]:
    """Return the digest of what each dataset holds, of those that are there and can tell."""
    found = {}
    for name in sorted(names):
        dataset = catalog.get(name)
        if hasattr(dataset, "content_digest") and dataset.exists():
            found[name] = dataset.content_digest()
    return found


def cpu_seconds() -> float:
    """Return what this process, and its children that have ended, have computed so far."""
    return sum(os.times()[:4])


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
