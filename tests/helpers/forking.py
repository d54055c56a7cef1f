"""Processes that begin where everything is imported, and runs that are killed in them.

A process that a test starts spends some seconds on imports. Here one process, multiprocessing's
fork server, imports everything once for each worker of the tests. The others are forked from it: it
has one thread and runs nothing itself, so that they inherit nothing that a test did, no lock of
another thread and no GPU.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from multiprocessing import context as contexts
from multiprocessing import forkserver
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from lct_pipeline.models.device import limit_threads

TIMEOUT = 250.0  # seconds, less than a test may take


class Ended(NamedTuple):
    """How a process ended: its exit code, ``-signal`` where one ended it, and what it wrote."""

    exit_code: int
    output: str

    @property
    def was_killed(self) -> bool:
        return self.exit_code == -signal.SIGKILL


class Written(NamedTuple):
    """The moment just before a file gets its name for the n-th time: it lies there, unnamed.

    Attributes:
        pattern: Of the file's path, from the project's folder on, such as
            ``data/02_intermediate/*/shard-00001*``; ``*`` stands for folders too.
        number: Of the files that it matches.
    """

    pattern: str
    number: int = 1


def forking() -> Any:
    """Return the way of multiprocessing to fork processes of one that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["preloaded"])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    try:
        forkserver.ensure_running()  # with the path on which to find what it imports
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before
    return context


def fork_in_place_of_spawning(patch: pytest.MonkeyPatch) -> None:
    """Fork processes that would be spawned: they get what they are sent, and import nothing."""
    patch.setitem(contexts._concrete_contexts, "spawn", forking())


def run_session(
    project: Path,
    pipeline: str | None = None,
    *,
    nodes: Sequence[str] = (),
    killed: Written | None = None,
    only_missing_outputs: bool = False,
    **runtime_params: Any,
) -> Ended:
    """Run a pipeline of the smoke recipe as `kedro run` does, in a process of its own, to its end.

    Args:
        project: The project's folder.
        pipeline: Its name; None is the default.
        nodes: Names of the nodes that run; empty: all.
        killed: When the process gets SIGKILL, of which nothing can be tidied up.
        only_missing_outputs: Skip what has its outputs, as the flag of `kedro run` does.
        runtime_params: Parameters, such as ``run_id``.
    """
    options = {
        "pipeline_names": [pipeline] if pipeline else None,
        "node_names": nodes,
        "only_missing_outputs": only_missing_outputs,
    }
    return run_forked(_run_session, project, killed, runtime_params, options)


def run_forked(work: Callable[..., None], *arguments: Any) -> Ended:
    """Call a function in a process of its own, and wait for its end."""
    with TemporaryDirectory() as folder:
        output = Path(folder) / "output"
        process = forking().Process(target=_work, args=(output, work, arguments))
        process.start()
        process.join(TIMEOUT)
        if process.exitcode is None:
            process.kill()
            process.join()
            pytest.fail(f"not over after {TIMEOUT:.0f} s:\n{output.read_text()}")
        return Ended(process.exitcode, output.read_text())


def _run_session(
    project: Path,
    killed: Written | None,
    runtime_params: dict[str, Any],
    options: dict[str, Any],
) -> None:
    os.chdir(project)
    bootstrap_project(project)
    with KedroSession.create(
        project_path=project, env="smoke", runtime_params=runtime_params
    ) as session:
        if killed is not None:
            _kill_when_written(project, killed)
        session.run(**options)


def _work(output: Path, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """Call it with its output in a file; end with 1 and the traceback where it fails."""
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    exit_code = 0
    try:
        limit_threads(1)
        work(*arguments)
    except BaseException:
        exit_code = 1
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)  # without waiting for threads


def _kill_when_written(project: Path, moment: Written) -> None:
    """Watch what is renamed: everything that the catalog writes gets its name that way."""
    seen = 0

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event != "os.rename":
            return
        path = os.path.relpath(os.path.abspath(os.fsdecode(arguments[1])), project)
        if fnmatch(path, moment.pattern):
            seen += 1
            if seen == moment.number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
