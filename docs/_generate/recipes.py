"""Recipes as their files have them: the header comments, and the values that differ from base."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FIELD = re.compile(r"^([a-z]+): +(.*)$")


def recipe(name: str) -> str:
    """Return the header of ``conf/<name>/parameters.yml`` as a list, and its values."""
    header, values = split((ROOT / "conf" / name / "parameters.yml").read_text())
    title, *rest = header
    lines = [f"**{title}**", ""]
    for line in rest:
        field = FIELD.match(line)
        if field:
            lines.append(f"- *{field[1]}*: {field[2]}")
        else:
            lines[-1] += f" {line.strip()}"
    code = [f'```yaml title="conf/{name}/parameters.yml"', *values, "```"]
    return "\n".join([*(line.replace("<", "&lt;") for line in lines), "", *code])


def split(text: str) -> tuple[list[str], list[str]]:
    """Return the lines of the comment at the top, and the rest."""
    lines = text.splitlines()
    end = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    return [line.removeprefix("#").removeprefix(" ") for line in lines[:end]], lines[
        end:
    ]
