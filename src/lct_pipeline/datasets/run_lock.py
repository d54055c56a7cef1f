"""One process at a time works on a run: others wait a while for its end."""

from __future__ import annotations

import logging
import os
import socket
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from lct_pipeline.datasets.files import atomic_path
from lct_pipeline.errors import DataError
from lct_pipeline.given_files import regular_file

logger = logging.getLogger(__name__)

FILE, HOLDER = ".lock", ".held_by"


def hold_run(folder: Path, wait_minutes: int, work: str) -> FileLock:
    """Return the lock of a run, taken.

    It ends with this process, however that ends: no child inherits it. Its owner alone may open its
    file, for whoever can open it can lock it. A second file tells others who has it.

    Args:
        folder: Of the run; it may not be there.
        wait_minutes: How long to wait for another process.
        work: What this process does, for others.

    Raises:
        DataError: Another process still has it, or its file cannot be opened.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / FILE
    try:
        if file.exists():
            file.chmod(0o600)  # earlier versions let everybody open it
        lock = FileLock(file, mode=0o600)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            message = "Run %s is worked on by %s: waiting for its end, at most %d min."
            logger.warning(message, folder.name, _holder(folder), wait_minutes)
            lock.acquire(timeout=60 * wait_minutes, poll_interval=0.5)
    except Timeout as error:
        raise DataError(
            f"run {folder.name} is worked on by {_holder(folder)}, still after {wait_minutes} min. "
            "Let it end, end it, wait for longer (runtime.wait_minutes), or give this run "
            f"another name (--params=run_id=<name>). If it is not there any more, remove {file}; "
            "on a disk that machines share, look on the machine that is named."
        ) from error
    except OSError as error:
        raise DataError(
            f"{file} cannot be locked ({error.strerror}). If it is another user's, take another "
            "name for the run (--params=run_id=<name>), or remove the file when they are done."
        ) from error
    since = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    with atomic_path(folder / HOLDER) as temporary:
        temporary.write_text(
            f"process {os.getpid()} on {socket.gethostname()} ({work}, since {since})"
        )
    return lock


def _holder(folder: Path) -> str:
    """Return which process has the lock, as it told itself."""
    try:
        return regular_file(folder / HOLDER).read_text()
    except (OSError, ValueError):  # not written yet, or no text
        return "another process"
