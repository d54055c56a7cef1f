"""What the commands print: tables of 100 columns, wider on a wide terminal, colours there alone."""

from __future__ import annotations

import sys
from shutil import get_terminal_size

from rich import box
from rich.console import Console
from rich.table import Table

WIDTH = 100
# columns that may take more lines where there is no room, and their least width
FOLDED = {"run": 12, "metric": 20, "verdict": 16}
NUMBERS = ("images", "steps", "min", "MiB", "nfe", "B less A")


def console() -> Console:
    """Return where to print: as wide as the terminal, and 100 columns at least: none is cut."""
    terminal = get_terminal_size().columns if sys.stdout.isatty() else 0
    return Console(width=max(WIDTH, terminal), highlight=False, markup=False)


def table(*titles: str) -> Table:
    """Return an empty table; numbers stand at the right."""
    made = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for title in titles:
        made.add_column(
            title,
            justify="right" if title in NUMBERS else "left",
            overflow="fold",
            no_wrap=title not in FOLDED,
            min_width=FOLDED.get(title),
        )
    return made
