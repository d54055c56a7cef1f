"""Tables of the parameters: types and bounds from the pydantic models, the rest from conf/base.

A comment in ``conf/base/parameters_<stage>.yml`` is the meaning of the key that stands first in its
line; lines with nothing but a comment below it go on with it.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).parents[2]
BASE = ROOT / "conf" / "base"
COMMENT = re.compile(r"(?:^|\s)#\s?(.*)$")


class Row(NamedTuple):
    """A parameter, or a group of them where ``allowed`` is None."""

    key: str
    allowed: str | None
    default: str
    meaning: str


def group_names() -> list[str]:
    """Return the groups of parameters, in the order of their declaration."""
    return [name for name in _schema()["properties"] if name != "run_id"]


def table(group: str) -> str:
    """Return the Markdown table of a group: parameter, default, what is allowed, meaning."""
    lines = [
        '<div class="parameters" markdown="block">',
        "",
        "| parameter | default | allowed | meaning |",
        "|---|---|---|---|",
    ]
    for row in rows(group):
        if row.allowed is None:
            if row.meaning:
                lines.append(f"| **{row.key}** | | | {_cell(row.meaning)} |")
            continue
        lines.append(
            f"| {breakable(row.key)} | {breakable(row.default)} | {row.allowed} "
            f"| {_cell(row.meaning)} |"
        )
    return "\n".join([*lines, "", "</div>"])


def rows(group: str) -> Iterator[Row]:
    """Yield the parameters of a group with what is known of them."""
    values, meanings = _base()
    schema = _resolved(_schema()["properties"][group])
    yield from _rows(group, schema, values[group], meanings)


def _rows(
    key: str, schema: dict[str, Any], value: Any, meanings: dict[str, str]
) -> Iterator[Row]:
    meaning = meanings.get(key, "")
    if schema.get("type") != "object":
        yield Row(key, allowed(schema), _as_yaml(value), meaning)
        return
    yield Row(key, None, "", meaning)
    for name, inner in schema["properties"].items():
        yield from _rows(f"{key}.{name}", _resolved(inner), value[name], meanings)


@cache
def _schema() -> dict[str, Any]:
    from lct_pipeline.parameters import Parameters

    return Parameters.model_json_schema()


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    return _schema()["$defs"][name] if name else schema


def allowed(schema: dict[str, Any]) -> str:
    """Return in words what a JSON schema allows."""
    schema = _resolved(schema)
    if "anyOf" in schema:
        return ", or ".join(allowed(one) for one in schema["anyOf"])
    if schema.get("type") == "object":
        return f"mapping of {', '.join(breakable(key) for key in schema['properties'])}"
    if "enum" in schema:
        return ", ".join(breakable(value) for value in schema["enum"])
    kind = schema.get("type")
    if kind == "array":
        return _allowed_list(schema)
    words = {
        "integer": "whole number",
        "number": "number",
        "string": "text",
        "boolean": "`true`, `false`",
        "null": "`null`",
    }
    return " ".join([words[kind], *_bounds(schema)]) if kind else "anything"


def _allowed_list(schema: dict[str, Any]) -> str:
    if "prefixItems" in schema:
        items = schema["prefixItems"]
        return f"{len(items)} of: {allowed(items[0])}"
    least = schema.get("minItems", 0)
    return ("list of" if least == 0 else f"list of at least {least}:") + (
        f" {allowed(schema['items'])}"
    )


def _bounds(schema: dict[str, Any]) -> list[str]:
    signs = {
        "minimum": "≥",
        "exclusiveMinimum": ">",
        "maximum": "≤",
        "exclusiveMaximum": "<",
    }
    found = [
        f"{sign} {schema[name]:,}" for name, sign in signs.items() if name in schema
    ]
    if "multipleOf" in schema:
        found.append(f"multiple of {schema['multipleOf']}")
    return [", ".join(found)] if found else []


def _as_yaml(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000)
    return text.removesuffix("...\n").strip()


def breakable(code: str) -> str:
    """Return code that a narrow page may break after a dot, an underscore or a slash."""
    with_breaks = re.sub(r"([._/])(?=\D)", r"\1<wbr>", html.escape(str(code)))
    return f"<code>{with_breaks}</code>"


def _cell(text: str) -> str:
    """Return text for the cell of a table, without the signs that Markdown takes as its own."""
    text = html.escape(text, quote=False)
    for character in "|*{":  # of tables, of emphasis, of attributes
        text = text.replace(character, f"&#{ord(character)};")
    return text


@cache
def _base() -> tuple[dict[str, Any], dict[str, str]]:
    """Return the values of conf/base, and the meaning of each dotted key."""
    values: dict[str, Any] = {}
    meanings: dict[str, str] = {}
    for path in sorted(BASE.glob("parameters*.yml")):
        text = path.read_text()
        values |= yaml.safe_load(text)
        meanings |= meanings_in(text)
    return values, meanings


def meanings_in(text: str) -> dict[str, str]:
    """Return the comment of each dotted key of a YAML mapping."""
    first_keys: dict[int, str] = {}
    root = yaml.compose(text)
    assert isinstance(root, yaml.MappingNode)
    for line, key in _keys(root, ""):
        first_keys.setdefault(line, key)
    found: dict[str, list[str]] = {}
    current = None
    for number, line in enumerate(text.splitlines()):
        current = first_keys.get(number, current)
        comment = COMMENT.search(line)
        if current and comment:
            found.setdefault(current, []).append(comment[1].strip())
    return {key: " ".join(parts) for key, parts in found.items()}


def _keys(node: yaml.MappingNode, prefix: str) -> Iterator[tuple[int, str]]:
    for key, value in node.value:
        path = f"{prefix}.{key.value}" if prefix else key.value
        yield key.start_mark.line, path
        if isinstance(value, yaml.MappingNode):
            yield from _keys(value, path)
