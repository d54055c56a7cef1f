r"""Text from outside, made safe for where it is shown: names of files, values of records, errors.

Nothing of it may steer what shows it, and no secret may be in it. A terminal obeys control
characters, Markdown and HTML have marks, a log is told by its lines. What is written here shows
all of them as themselves: an escape as ``\x1b``.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Callable
from textwrap import indent
from traceback import format_exception
from types import TracebackType
from typing import Any

# C0 and C1, marks and overrides of direction, separators of lines, half characters, tags
_CONTROLS = (
    r"\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff"
    r"\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f"
)
_CONTROL = re.compile(f"[{_CONTROLS}]")
_EDGE = r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])"  # an underscore that is not within a word
_MARK = re.compile(rf"([*#\[\]]|{_EDGE})|[\\`|~$&<>\"']")
_ANY_MARK = re.compile(rf"[^\w .,:;/()+@%=-]|{_EDGE}")

HIDDEN = "***"
_SHORTEST = 8  # characters of a secret: a shorter value may be a word of any text
_HOLDS_SECRET = re.compile(r"(?:TOKEN|PASSWORD|PASSWD|SECRET|KEY|KEY_ID)$", re.I)
_ADDRESS = re.compile(r"://[^\s\"'<>\\]+")  # JSON and quotes end it
# before the host; a password may have / ? #, and a number after the colon is a port
_USER = re.compile(r"[^/?#]*@|[^/?#@:]*:(?!\d+(?:/|$)).*?@")
_NAMED = re.compile(
    r"((?:token|password|passwd|secret|api_?key|access_?key|signature)=|\bbearer )"
    r"[^\s\"',;&\\]+|\bhf_[A-Za-z0-9]{16,}",
    re.I,
)


def printable(text: str) -> str:
    r"""Return a text as one line without control characters, which it shows as ``\x1b``."""
    return _CONTROL.sub(lambda found: _escaped(found[0]), text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def lines(text: str) -> str:
    """Return a text whose lines after the first are indented: none can pass for another message.

    Control characters are shown as :func:`printable` does; nothing is changed twice.
    """
    first, *others = (printable(line) for line in text.split("\n"))
    rest = "\n".join(others)
    if any(line and not line.startswith("  ") for line in others):
        rest = indent(rest, "  ")
    return "\n".join([first, rest] if others else [first])


def markdown(text: str) -> str:
    """Return a text that Markdown, also as part of a line or table, shows as it is.

    Not for what stands between backticks, where nothing can be escaped.
    """

    def escaped(found: re.Match[str]) -> str:
        return f"\\{found[0]}" if found[1] else f"&#{ord(found[0])};"

    return _MARK.sub(escaped, printable(text))


def in_python(text: str) -> str:
    """Return a text as Python has it, for code in Markdown, where not all viewers know blocks."""
    return _MARK.sub(
        lambda c: c[0] if c[0] in "\\\"'" else f"\\x{ord(c[0]):02x}", repr(text)
    )


def without_marks(text: str) -> str:
    """Return a text for the header of a Markdown file, which some show and none can escape."""
    brackets = str.maketrans("[]", "()")
    return _ANY_MARK.sub("-", printable(text).translate(brackets))


def without_secrets(text: str) -> str:
    """Return a text without what logs in.

    That is user and password, and all that follows ``?`` or ``#``, of a URL; what follows
    ``token=`` and the like; and values of variables of the environment such as ``HF_TOKEN``.
    """
    for value in _secrets():
        text = text.replace(value, HIDDEN)
    text = _NAMED.sub(lambda found: f"{found[1] or ''}{HIDDEN}", text)
    return _ADDRESS.sub(lambda found: _public(found[0]), text)


def _public(address: str) -> str:
    """Return an address without user, password and what follows the path."""
    kept = []
    for part in address.split("://"):  # one address may lie within another
        whole = _USER.sub("", part, count=1) if _USER.match(part) else part
        kept.append(re.split("[?#]", whole, maxsplit=1)[0])
        if kept[-1] != whole:
            break
    return "://".join(kept)


def each_text(value: Any, change: Callable[[str], str]) -> Any:
    """Return values of JSON, also in arrays of objects, of which each text is changed."""
    if isinstance(value, dict):
        return {key: each_text(inner, change) for key, inner in value.items()}
    is_array = str(getattr(value, "dtype", "")) == "object"
    if is_array or isinstance(value, list | tuple):
        return [each_text(inner, change) for inner in value]
    return change(value) if isinstance(value, str) else value


def public(value: Any) -> Any:
    """Return values of JSON without secrets."""
    text = json.dumps(value)  # one look is quick, and most have none
    has_secret = "://" in text or without_secrets(text) != text
    return each_text(value, without_secrets) if has_secret else value


def holds_secret(value: str) -> bool:
    """Return whether a value has a secret, also one of odd characters before the host of a URL."""
    after = value.split("://")[1:]
    return without_secrets(value) != value or any(map(_USER.match, after))


def _secrets() -> list[str]:
    """Return the secrets of the environment, the longest first, as one may be part of another."""
    found = {v for name, v in os.environ.items() if _HOLDS_SECRET.search(name)}
    return sorted((v for v in found if len(v) >= _SHORTEST), key=len, reverse=True)


def message(text: str) -> str:
    """Return what is said to a person: lines that can be printed, without secrets."""
    return lines(without_secrets(text))


class PlainRecord(logging.LogRecord):
    """An entry of a log whose text and traceback are a :func:`message`, whichever library's it is.

    ``logging.setLogRecordFactory(PlainRecord)`` makes all entries such ones.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.markup = str(self.name).startswith("kedro")  # for rich: no name is a mark
        if self.exc_info and self.exc_info[1]:
            self.exc_text = message("".join(format_exception(self.exc_info[1])).strip())

    def getMessage(self) -> str:  # noqa: N802
        """Return the text."""
        return message(super().getMessage())


def show_fault(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """Print a traceback as a :func:`message`: what ``sys.excepthook`` is in a command."""
    sys.stderr.write(message("".join(format_exception(kind, error, traceback))))
