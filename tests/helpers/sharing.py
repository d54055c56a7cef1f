"""What takes long to make is made once for all workers of pytest-xdist, and only read then."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def made_once(
    factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]
) -> Path:
    """Return a folder that one worker fills while others wait for it.

    Args:
        factory: The fixture ``tmp_path_factory``.
        name: Name of the folder, one for each thing that is shared.
        make: Fills the folder, which is there and empty.
    """
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, made = shared / name, shared / f"{name}.made"
    with FileLock(shared / f"{name}.lock"):
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            made.touch()
    return folder


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of change of each file, which differ once one is written."""
    about = {path: path.stat() for path in folder.rglob("*") if path.is_file()}
    return {
        path.relative_to(folder).as_posix(): (found.st_size, found.st_mtime_ns)
        for path, found in sorted(about.items())
    }
