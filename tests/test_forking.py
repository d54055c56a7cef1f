"""Processes that tests start: how they end, and that a run is killed where a test says."""

import os
import signal
import sys
from pathlib import Path

import pytest
from forking import Ended, Saved, Written, killed_at, run_forked, run_session


def fail() -> None:
    sys.stdout.write("before\n")
    raise ValueError("of the work")


def test_a_process_says_how_it_ended() -> None:
    assert run_forked(print, "all is well") == Ended(0, "all is well\n")
    assert run_forked(os._exit, 7) == Ended(7, "")
    assert run_forked(signal.raise_signal, signal.SIGKILL).was_killed
    failed = run_forked(fail)
    assert failed.exit_code == 1
    assert failed.output.startswith("before\nTraceback")
    assert failed.output.endswith("ValueError: of the work\n")


def test_a_run_is_killed_at_the_moment_that_is_named(project: Path) -> None:
    folder = project / "data" / "02_intermediate"
    killed_at(project, Written("data/02_intermediate/*/index.json"), "ingest")
    assert not list(folder.glob("*/images/index.json"))
    assert list(folder.glob("*/images/shard-*"))
    killed_at(project, Saved("images"), "ingest")
    assert list(folder.glob("*/images/index.json"))
    assert not list(folder.glob("*/image_manifest.parquet"))
    with pytest.raises(AssertionError, match=r"not killed at Saved.*nothing"):
        killed_at(project, Saved("nothing"), "ingest")
    assert list(folder.glob("*/image_manifest.parquet"))
    again = run_session(project, "ingest", only_missing_outputs=True)
    assert again.exit_code == 0
    assert "Skipping all 2 nodes" in again.output
