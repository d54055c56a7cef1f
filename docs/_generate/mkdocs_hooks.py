"""MkDocs hook: fills what the pages leave to be generated.

Lines ``<!-- steps: training -->`` and ``<!-- files: training -->`` become the tables of that stage,
``<!-- recipe: smoke -->`` that recipe, ``<!-- pipelines: all -->`` the stages of each pipeline.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "src")]

import recipes  # noqa: E402  # MkDocs imports this file by its path
import stage_tables  # noqa: E402

PLACE = re.compile(r"^<!-- (\w+): (\w+) -->$", flags=re.MULTILINE)
MAKERS: dict[str, Callable[[str], str]] = {
    "steps": stage_tables.nodes_table,
    "files": stage_tables.files_table,
    "pipelines": stage_tables.pipelines_table,
    "recipe": recipes.recipe,
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill the places of a page."""
    return PLACE.sub(lambda place: MAKERS[place[1]](place[2]), markdown)
