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
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from multiprocessing import context as contexts
from multiprocessing import forkserver
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from kedro.framework.hooks import hook_impl

TIMEOUT = 250.0  # seconds, less than a test may take


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        exit_code: That of the process; ``-signal`` where one ended it.
        output: What it wrote to stdout and stderr.
    """

    exit_code: int
    output: str

    @property
    def was_killed(self) -> bool:
        return self.exit_code == -signal.SIGKILL


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


def run_forked(work: Callable[..., object], *arguments: Any) -> Ended:
    """Call a function of a module in a process of its own, and wait until it has ended."""
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


@dataclass(frozen=True)
class Saved:
    """The moment at which a dataset of the catalog was saved for the n-th time."""

    dataset: str
    number: int = 1


@dataclass(frozen=True)
class Written:
    """The moment just before a file gets its name for the n-th time: it lies there, unnamed.

    Attributes:
        pattern: Of the file's path, from the project's folder on, such as
            ``data/02_intermediate/*/shard-00001*``; ``*`` stands for folders too.
        number: Of the files that it matches.
    """

    pattern: str
    number: int = 1


def run_session(
    project: Path,
    pipeline: str | None = None,
    *,
    nodes: Sequence[str] = (),
    killed: Saved | Written | None = None,
    env: str = "smoke",
    only_missing_outputs: bool = False,
    **runtime_params: Any,
) -> Ended:
    """Run a pipeline as `kedro run` does, in a process of its own, until it ends or is killed.

    Args:
        project: The project's folder.
        pipeline: Its name; None is the default.
        nodes: Names of the nodes that run; empty: all.
        killed: When the process gets SIGKILL, of which nothing can be tidied up.
        env: The recipe.
        only_missing_outputs: Skip what has its outputs, as the flag of `kedro run` does.
        runtime_params: Parameters, such as ``run_id``.
    """
    return run_forked(
        _run_session,
        project,
        pipeline,
        nodes,
        killed,
        env,
        only_missing_outputs,
        runtime_params,
    )


def killed_at(
    project: Path,
    moment: Saved | Written,
    pipeline: str | None = None,
    **options: Any,
) -> None:
    """Run a pipeline and kill it; see :func:`run_session`. It is an error when it ends before."""
    ended = run_session(project, pipeline, killed=moment, **options)
    assert ended.was_killed, f"not killed at {moment}:\n{ended.output}"


def _work(
    output: Path, work: Callable[..., object], arguments: tuple[Any, ...]
) -> None:
    """Do the work with its output in a file; end with 1 and the traceback where it fails."""
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    exit_code = 0
    try:
        work(*arguments)
    except BaseException:
        exit_code = 1
        traceback.print_exc()
    for buffer in (sys.stdout, sys.stderr):
        with suppress(OSError):
            buffer.flush()
    os._exit(exit_code)  # without waiting for threads


def _run_session(
    project: Path,
    pipeline: str | None,
    nodes: Sequence[str],
    killed: Saved | Written | None,
    env: str,
    only_missing_outputs: bool,
    runtime_params: Mapping[str, Any],
) -> None:
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    from lct_pipeline.models.device import limit_threads

    limit_threads(1)
    os.chdir(project)
    bootstrap_project(project)
    with KedroSession.create(
        project_path=project, env=env, runtime_params=dict(runtime_params)
    ) as session:
        if isinstance(killed, Saved):
            session._hook_manager.register(_KillWhenSaved(killed))
        elif isinstance(killed, Written):
            _kill_when_written(project, killed)
        session.run(
            pipeline_names=[pipeline] if pipeline else None,
            node_names=nodes,
            only_missing_outputs=only_missing_outputs,
        )


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


class _KillWhenSaved:
    def __init__(self, moment: Saved) -> None:
        self._moment = moment
        self._seen = 0

    @hook_impl
    def after_dataset_saved(self, dataset_name: str) -> None:
        self._seen += dataset_name == self._moment.dataset
        if self._seen == self._moment.number:
            os.kill(os.getpid(), signal.SIGKILL)
