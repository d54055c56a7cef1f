"""What the commands print: tables of 100 columns, wider on a wide terminal, colours there alone."""

from __future__ import annotations

import sys
from shutil import get_terminal_size

from rich import box
from rich.console import Console
from rich.table import Table

from lct_pipeline.reporting.words import value_text

WIDTH = 100
# columns that may take more lines where there is no room, and their least width
FOLDED = {"run": 12, "figure": 20, "verdict": 16}


def console() -> Console:
    """Return where to print: as wide as the terminal, and 100 columns at least: none is cut."""
    terminal = get_terminal_size().columns if sys.stdout.isatty() else 0
    width = max(WIDTH, terminal)
    return Console(width=width, highlight=False, markup=False, soft_wrap=False)


def table(**columns: str) -> Table:
    """Return an empty table.

    Args:
        columns: Title, with spaces for underscores, and ``left`` or ``right``.
    """
    made = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for name, side in columns.items():
        title = name.replace("_", " ")
        made.add_column(
            title,
            justify="right" if side == "right" else "left",
            overflow="fold",
            no_wrap=title not in FOLDED,
            min_width=FOLDED.get(title),
        )
    return made


def figure(value: float | None, std: float | None = None) -> str:
    """Return a value ± its standard deviation; nothing for none."""
    return "" if value is None else value_text(value, std)
