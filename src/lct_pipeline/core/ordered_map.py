"""A bounded map over an executor, whose results come in the order of the items.

It needs no more of an executor than its ``submit``, as those of concurrent.futures and of many
other libraries have.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    submit: Callable[[Callable[[Item], Result], Item], Future[Result]],
    ahead: int,
) -> Generator[Result]:
    """Yield ``function(item)`` for each item, in the order of the items.

    When the caller stops early, or one of the two raises, what has not begun is cancelled.

    Args:
        function: What is called.
        items: What it is called with; may be endless. Taken in the caller's thread.
        submit: Begins a call, and returns its future: the method of an executor.
        ahead: At most so many items, >= 1, are taken and not yet yielded.

    Raises:
        Exception: What ``items`` raised, or ``function`` for the item whose turn it is.
    """
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(submit(function, item))
            del item  # it may be large, and nothing needs it until the next one is here
            if len(pending) == ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
