"""What the documentation says of the code is there: functions, files, messages."""

from __future__ import annotations

import ast
import importlib
import re
from functools import cache
from pathlib import Path

import pytest

from test_boundaries import LAYERS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def test_named_functions_exist() -> None:
    text = (DOCS / "formulas.md").read_text()
    names = re.findall(r"`((?:core|models)\.[\w.]+)`", text)
    assert len(names) > 40
    for name in names:
        module, _, function = name.rpartition(".")
        found = importlib.import_module(f"lct_pipeline.{module}")
        assert hasattr(found, function), name


def test_named_files_exist() -> None:
    for page in ("extending.md", "architecture.md"):
        names = re.findall(r"`([\w/]+(?:/|\.py|\.yml))`", (DOCS / page).read_text())
        assert names
        for name in names:
            places = (ROOT / name, ROOT / "src" / "lct_pipeline" / name)
            is_near = any((ROOT / "src").rglob(name)) if "/" not in name else False
            assert is_near or any(place.exists() for place in places), f"{page}: {name}"


def test_the_picture_has_all_layers_in_their_order() -> None:
    text = (DOCS / "architecture.md").read_text()
    drawing = text.partition("src/lct_pipeline/")[2].partition("```")[0]
    lines = [line for line in drawing.splitlines()[1:] if line.strip()]
    assert max(map(len, lines)) < 74  # the width of a page
    first = [line[3:].partition("   ")[0].split() for line in lines]
    shown = [name.strip("/") for names in first for name in names]
    assert shown == [name for name in reversed(LAYERS) if name != "__main__"]


def quoted_messages() -> list[str]:
    """Return the messages that the page quotes, but those of torch and of the system."""
    text = (DOCS / "troubleshooting.md").read_text()
    found = re.findall(r"^```text\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    others = ("torch.OutOfMemoryError", "Killed")
    return [message.strip() for message in found if not message.startswith(others)]


@cache
def texts_in_source() -> tuple[str, ...]:
    """Return the texts of the source, with a NUL for what is filled in."""
    texts = []
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = (getattr(part, "value", None) for part in node.values)
                texts.append("".join(p if isinstance(p, str) else "\0" for p in parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return tuple(texts)


def is_in_source(line: str) -> bool:
    """Return whether the sentences of a message are what the source can say."""
    return any(
        all(_is_text(part) for part in parts)
        for parts in ([line.strip()], re.split(r"(?<=\.) ", line.strip()))
    )


def _is_text(sentence: str) -> bool:
    parts = re.split(r"('?<[^>]*>'?)", sentence)
    filled = (
        r"(?:\0|%s|%d|{})"  # an f-string's, a log message's, or the words themselves
    )
    expression = "".join(
        filled.replace("{}", re.escape(part)) if number % 2 else re.escape(part)
        for number, part in enumerate(parts)
    )
    return any(re.search(expression, text) for text in texts_in_source())


@pytest.mark.parametrize("message", quoted_messages(), ids=lambda text: text[:40])
def test_a_quoted_message_is_in_the_source(message: str) -> None:
    for line in message.splitlines():
        assert is_in_source(line), line


def test_a_message_that_nobody_gives_is_noticed() -> None:
    assert not is_in_source("ingestion.source='<source>' has gone away.")
    assert len(quoted_messages()) >= 25
