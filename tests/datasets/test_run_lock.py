"""One process at a time works on a run; who it is; for how long others wait."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock

from lct_pipeline.datasets.run_lock import hold_run
from lct_pipeline.errors import DataError

HERE = (
    rf"process {os.getpid()} on {socket.gethostname()} \(train, since 20\d\d-.* UTC\)"
)


def test_a_run_that_is_held_is_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = hold_run(tmp_path / "run", 1, "train")
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(hold_run, tmp_path / "run", 1, "combine")
        while "worked on" not in caplog.text:
            time.sleep(0.01)
        assert not second.done()
        first.release()
        second.result(timeout=20).release()
    assert re.search(f"run is worked on by {HERE}: .* at most 1 min", caplog.text)


@pytest.mark.timeout(10)
def test_waiting_ends_with_who_holds_it_and_what_to_do(tmp_path: Path) -> None:
    with hold_run(tmp_path / "run", 0, "train"):
        with pytest.raises(DataError, match=f"run run is worked on by {HERE}") as told:
            hold_run(tmp_path / "run", 0, "combine")
    for part in ("runtime.wait_minutes", "run_id", str(tmp_path / "run" / ".lock")):
        assert part in str(told.value)
    with FileLock(tmp_path / ".lock"):
        with pytest.raises(DataError, match="is worked on by another process"):
            hold_run(tmp_path, 0, "combine")


def test_only_its_owner_can_open_the_lock(tmp_path: Path) -> None:
    file = tmp_path / ".lock"
    for _ in range(2):
        with hold_run(tmp_path, 0, "train"):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
        file.chmod(0o644)  # as earlier versions left it


def test_a_lock_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / ".lock").mkdir()
    with pytest.raises(DataError, match=r"\.lock cannot be locked \(.*remove the file"):
        hold_run(tmp_path, 0, "train")


HOLDING = """
import os, subprocess, sys, time
from pathlib import Path
from lct_pipeline.datasets.run_lock import hold_run
lock = hold_run(Path(sys.argv[1]), 0, "train")
forked = os.fork()
if forked == 0:
    time.sleep(60)
print(forked, subprocess.Popen(["sleep", "60"]).pid, flush=True)
time.sleep(60)
"""


def test_the_lock_of_a_killed_process_is_free_while_its_children_live(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", HOLDING, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        children = [int(pid) for pid in process.stdout.readline().split()]
        with pytest.raises(DataError, match=f"process {process.pid} on"):
            hold_run(tmp_path, 0, "combine")
        process.kill()
        process.wait()
        try:
            assert len(children) == 2
            for pid in children:
                os.kill(pid, 0)
            hold_run(tmp_path, 0, "combine").release()
        finally:
            for pid in children:
                os.kill(pid, signal.SIGKILL)
