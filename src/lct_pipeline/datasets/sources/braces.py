"""Patterns of file names as shells expand them: ``train-{000..009}.tar``, ``{a,b}*.tar``."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def is_pattern(name: str) -> bool:
    """Return whether a name stands for several files."""
    return bool(_BRACES.search(name)) or glob.has_magic(name)


def expand(pattern: str) -> Iterator[str]:
    """Yield the names that a pattern stands for, in its order; wildcards match what is there.

    A name without wildcards is yielded whether or not there is such a file.
    """
    for name in _expand_braces(pattern):
        if glob.has_magic(name):
            yield from sorted(glob.glob(name, recursive=True))
        else:
            yield name


def _expand_braces(pattern: str) -> Iterator[str]:
    found = _BRACES.search(pattern)
    if found is None:
        yield pattern
        return
    for choice in _choices(found[1]):
        yield from _expand_braces(
            pattern[: found.start()] + choice + pattern[found.end() :]
        )


def _choices(text: str) -> Iterator[str]:
    """Yield what may stand for a pair of braces: the numbers of a range, or a list."""
    limits = _RANGE.fullmatch(text)
    if limits is None:
        yield from text.split(",")
        return
    first, last = limits[1], limits[2]
    for number in range(int(first), int(last) + 1):
        yield str(number).zfill(len(first))
