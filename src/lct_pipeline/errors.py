"""Faults that a user can mend: shown as one message, without a traceback."""

from __future__ import annotations

import errno
import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

import click

from lct_pipeline.plain_text import PlainRecord, message, show_fault

# of a system's error: no right, a place that is only read, no room
PLACES = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC}


class UserError(Exception):
    """Something given is wrong; the message names it and says what would be right."""


class DataError(UserError):
    """A file or folder is missing, damaged or not of the kind that is needed."""


class MeasureError(DataError):
    """Some weights give nothing that can be measured; others of the same training may."""


class ParameterError(UserError):
    """A parameter is unknown, of the wrong type, out of range, or not that of an existing run."""


class TrainingError(UserError):
    """Training cannot go on."""


def instead_of(name: str, known: Iterable[str]) -> str:
    """Return what there is in place of an unknown name, the one most like it first."""
    names = list(known)
    close = get_close_matches(name, names, 1)
    meant = f"did you mean {close[0]}? " if close else ""
    return f"{meant}there are: {', '.join(names)}"


def user_error_in(error: BaseException | None) -> UserError | None:
    """Return the fault that a user can mend behind an exception, None where there is none."""
    while error is not None:
        if isinstance(error, UserError):
            return error
        if isinstance(error, OSError) and error.errno in PLACES:
            where = error.filename or "a file"
            return DataError(
                f"{where} cannot be written or read: {error.strerror}. Give the right to do so, or "
                "room, or run in another folder."
            )
        error = error.__cause__ or error.__context__
    return None


@contextmanager
def one_message() -> Iterator[None]:
    """End a command with one message, without a traceback, for what a user can mend.

    Neither the message nor the traceback of another fault has secrets.
    """
    logging.setLogRecordFactory(PlainRecord)
    try:
        yield
    except Exception as error:
        fault = user_error_in(error)
        if fault is None:
            sys.excepthook = show_fault
            raise
        raise click.ClickException(message(str(fault))) from None
