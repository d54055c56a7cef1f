"""Files that are whole or absent."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lct_pipeline.commands import command
from lct_pipeline.errors import DataError, UserError

# what an error says, of Python and of the libraries that write, and what is needed
_OF_THE_DISK = {
    "no space left": "Free some space: the same command goes on from what is there.",
    "quota exceeded": "Free some space: the same command goes on from what is there.",
    "read-only file system": "Run in a folder that can be written to.",
    "permissionerror": "Give yourself the right to write there, or run in another folder.",
}


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``target`` and rename it onto ``target`` on success.

    A reader sees the old file or the new one, never half of one, with the rights that the umask
    leaves. What a failed write leaves is removed; what a killed one leaves carries the prefix
    ``.tmp-`` and is never read.

    Raises:
        DataError: The disk is full, or must not be written to.
    """
    try:
        with _replacing(target) as temporary:
            yield temporary
    except Exception as error:
        text = f"{type(error).__name__} {error}".lower()
        remedy = next((r for words, r in _OF_THE_DISK.items() if words in text), None)
        if remedy is None or isinstance(error, UserError):
            raise
        raise DataError(f"{target} cannot be written: {error}. {remedy}") from error


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    # not by the process: those of two containers have the same number
    temporary = target.with_name(f".tmp-{secrets.token_hex(4)}-{target.name}")
    try:
        yield temporary
        _share(temporary)
        if temporary.is_dir() and target.is_dir():
            shutil.rmtree(target)
        os.replace(temporary, target)
    finally:
        _remove(temporary)


def _share(path: Path) -> None:
    """Give a file, or those of a folder, the rights of a new one: safetensors keeps its private."""
    # those of a file, for to ask for the umask is to change it
    probe = path.with_name(f"{path.name}-rights")
    probe.touch()
    rights = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            file.chmod(rights)


def _remove(path: Path) -> None:
    """Remove a file or a folder if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def missing(path: Path | str, written_by: str) -> str:
    """Return the message for a result that is not there yet, and the pipeline that writes it."""
    return f"{path} is not there. Run {command(written_by)} first."
