"""The command that comes next, whole: what is pasted works on the run that the session is about."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import Any

from lct_pipeline.parameters import flatten


@dataclass
class Session:
    """How the session of Kedro was called, of which a process has one at a time."""

    env: str | None = None
    given: dict[str, Any] = field(default_factory=dict)


_SESSION = Session()


def remember(env: str | None, given: dict[str, Any]) -> None:
    """Note the recipe and the values of ``--params`` that the session was given."""
    _SESSION.env, _SESSION.given = env, flatten(given)


def command(pipeline: str | None, **changes: Any) -> str:
    """Return ``kedro run``, in backticks, as this session was called, but for another pipeline.

    Args:
        pipeline: Its name; None: the whole of it.
        changes: Values to give too, or instead, by dotted name.
    """
    return written(pipeline, _SESSION.env, _SESSION.given | changes)


def written(pipeline: str | None, env: str | None, given: dict[str, Any]) -> str:
    """Return a command in backticks, quoted for a shell, that gives these values by dotted name."""
    params = ",".join(f"{key}={_typed(value)}" for key, value in given.items())
    options = {"pipeline": pipeline, "env": env, "params": params}
    words = (f"--{name}={value}" for name, value in options.items() if value)
    return f"`{shlex.join(['kedro', 'run', *words])}`"


def _typed(value: Any) -> str:
    """Return a value as it is typed in ``--params``."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_typed, value))}]"
    if isinstance(value, dict):
        pairs = (f"{key}: {_typed(part)}" for key, part in value.items())
        return f"{{{', '.join(pairs)}}}"
    text = str(value)
    if "," not in text and text.strip() == text and text[:1] not in "'\"[{":
        return text
    quote = '"' if "'" in text else "'"
    return f"{quote}{text}{quote}"
