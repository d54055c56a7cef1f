"""The page of the parameters: ``python docs/_generate/parameter_tables.py`` writes it.

Types, bounds and meanings are those of the pydantic models in ``src/lct_pipeline/parameters/``,
defaults the values of ``conf/base``.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from lct_pipeline.parameters import Parameters

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "parameters.md"
HEAD = """\
# Parameters

<!-- `make docs` writes this page: a change goes to src/lct_pipeline/parameters/. -->

Every value stands once, in `conf/base/parameters_<stage>.yml`; a recipe, a folder beside it, has
only what differs. For one run give it on the command line:
`kedro run --params=training.num_steps=2000`. What a value may be and means stands in
`src/lct_pipeline/parameters/`, from which this page is written.
"""
SCHEMA = Parameters.model_json_schema()
WORDS = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "`true`, `false`",
    "null": "`null`",
}
SIGNS = {
    "minimum": "≥",
    "exclusiveMinimum": ">",
    "maximum": "≤",
    "exclusiveMaximum": "<",
    "multipleOf": "multiple of",
}


def page() -> str:
    """Return the page: a table for each group."""
    values: dict[str, Any] = {}
    for path in sorted((ROOT / "conf" / "base").glob("parameters_*.yml")):
        values |= yaml.safe_load(path.read_text())
    groups = [name for name in SCHEMA["properties"] if name != "run_id"]
    return "\n".join([HEAD, *(table(name, values[name]) for name in groups)])


def table(group: str, values: dict[str, Any]) -> str:
    """Return the section of a group: parameter, default, what is allowed, meaning."""
    schema = _resolved(SCHEMA["properties"][group])
    lines = [
        f"## {group}\n",
        f"{_text(schema['description'])}\n",
        '<div class="parameters" markdown="block">\n',
        "| parameter | default | allowed | meaning |",
        "|---|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in _rows(group, schema, values)),
        "\n</div>\n",
    ]
    return "\n".join(lines)


def _rows(key: str, schema: dict[str, Any], values: Any) -> Iterator[tuple[str, ...]]:
    for name, declared in schema["properties"].items():
        inner, full = _resolved(declared), f"{key}.{name}"
        meaning = _text(declared.get("description", inner.get("description", "")))
        if inner.get("type") == "object":
            yield f"**{full}**", "", "", meaning
            yield from _rows(full, inner, values[name])
        else:
            default = yaml.safe_dump(values[name], default_flow_style=True, width=1e9)
            shown = default.removesuffix("...\n").strip()
            yield f"`{full}`", f"`{shown}`", allowed(inner), meaning


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    return SCHEMA["$defs"][name] if name else schema


def allowed(schema: dict[str, Any]) -> str:
    """Return in words what a JSON schema allows."""
    schema = _resolved(schema)
    if "anyOf" in schema:
        return ", or ".join(map(allowed, schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema["type"] == "object":
        return f"mapping of {', '.join(f'`{name}`' for name in schema['properties'])}"
    if "prefixItems" in schema:
        return f"{len(schema['prefixItems'])} of: {allowed(schema['prefixItems'][0])}"
    if schema["type"] == "array":
        least = f" at least {schema['minItems']}:" if "minItems" in schema else ""
        return f"list of{least} {allowed(schema['items'])}"
    bounds = [f"{sign} {schema[key]:,}" for key, sign in SIGNS.items() if key in schema]
    return " ".join([WORDS[schema["type"]], ", ".join(bounds)]).strip()


def _text(text: str) -> str:
    """Return text of one line, without the signs that Markdown takes as its own."""
    text = html.escape(" ".join(text.split()), quote=False)
    for character in "|*{":  # of tables, of emphasis, of attributes
        text = text.replace(character, f"&#{ord(character)};")
    return text


if __name__ == "__main__":
    PAGE.write_text(page())
