"""Progress bars: live on a terminal, a line every ten seconds in a log."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sized
from typing import Any, TypeVar

from tqdm import tqdm

from lct_pipeline.plain_text import printable

T = TypeVar("T")


def track_losses(losses: Iterable[float], title: str, num_steps: int) -> None:
    """Run a fit, which yields the loss of each step, to its end behind a progress bar."""
    progress = track(losses, title, "step", total=num_steps)
    for loss in progress:
        progress.set_postfix(loss=f"{loss:.4f}", refresh=False)


def track(
    items: Iterable[T], title: str, unit: str, *, silent: bool = False, **options: Any
) -> tqdm[T]:
    """Return ``items`` behind a progress bar.

    Args:
        items: What is worked through.
        title: What is done, an imperative verb.
        unit: What an item is.
        silent: Show nothing, as in the second of several processes.
        options: Further arguments of tqdm, such as ``total``, ``initial`` and ``unit_scale``.
    """
    nothing = isinstance(items, Sized) and len(items) == 0 and "total" not in options
    interval = 0.2 if sys.stderr.isatty() else 10.0
    return tqdm(
        items,
        desc=printable(title),
        unit=unit,
        mininterval=interval,
        maxinterval=max(interval, 10.0),
        dynamic_ncols=True,
        disable=silent or nothing,
        **options,
    )


def gibibytes(num_bytes: int) -> str:
    """Return a size as people read it."""
    return f"{num_bytes / 2**30:.2f} GiB"
