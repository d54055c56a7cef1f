"""What all processes of a node keep: their number, and their end with their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from conftest import ROOT
from lct_pipeline.errors import ParameterError
from lct_pipeline.processes.children import check_devices

ORPHAN = """
import multiprocessing, os, time, torch
from lct_pipeline.processes.children import begin

def work():
    begin(0, torch.device("cpu"), 1)
    print(os.getpid(), flush=True)
    time.sleep(600)

if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=work)
    process.start()
    process.join()
"""


def test_a_process_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "orphan.py"
    script.write_text(ORPHAN)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, env=environment
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
        try:
            parent.communicate(timeout=30)  # returns when nobody can write any more
        finally:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize(
    ("device", "reason"),
    [("cuda", "this machine has 1 GPUs"), ("mps", "device mps takes one process only")],
)
def test_more_processes_than_devices_are_refused(
    monkeypatch: pytest.MonkeyPatch, device: str, reason: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ParameterError, match=f"runtime.num_processes=2: {reason}"):
        check_devices(2, torch.device(device))
    check_devices(8, torch.device("cpu"))
