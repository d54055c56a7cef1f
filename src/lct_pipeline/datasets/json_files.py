"""JSON that another machine may have written, read within bounds."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from lct_pipeline.errors import DataError
from lct_pipeline.given_files import regular_file

MEBIBYTE = 2**20
MAX_MIB = 64  # of a file; charts have a few MiB
MAX_LEVELS = 32  # of objects and lists in each other
MAX_DIGITS = 20  # of a whole number: more than 64 bits have


def read_json(path: Path, max_mib: int = MAX_MIB) -> Any:
    """Return what a JSON file says.

    Args:
        path: The file.
        max_mib: Its largest size, MiB.

    Raises:
        FileNotFoundError: It is not there.
        DataError: It is a link, which may lead elsewhere, or no regular file; too large; no JSON;
            too deep; or has a name twice or a number that is not finite.
    """
    try:
        if path.is_symlink():
            raise ValueError("it is a link")
        if regular_file(path).stat().st_size > max_mib * MEBIBYTE:
            raise ValueError(f"it has more than {max_mib} MiB")
        value = json.loads(
            path.read_text(encoding="utf-8"),
            object_pairs_hook=_object,
            parse_float=_finite,
            parse_int=_whole,
            parse_constant=_finite,
        )
        _check_levels(value, MAX_LEVELS)
        # half a surrogate pair is no text
        json.dumps(value, ensure_ascii=False).encode()
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is not readable JSON: {error}. Remove it.") from error
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r:.60} stands twice in an object")
    return found


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text:.60} is not a finite number")
    return value


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"{text:.60} has more than {MAX_DIGITS} digits")
    return int(text)


def _check_levels(value: Any, levels: int) -> None:
    if levels < 0:
        raise ValueError(f"it is nested more than {MAX_LEVELS} levels deep")
    parts = value.values() if isinstance(value, dict) else value
    for part in parts if isinstance(value, dict | list) else ():
        if isinstance(part, dict | list):
            _check_levels(part, levels - 1)
