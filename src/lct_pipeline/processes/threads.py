"""Work spread over threads, with a bound on what is in flight and the order kept.

Threads, not processes: Pillow's codecs, hashlib and torch release the interpreter's lock, and what
they return need not be copied between processes.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_AUTOMATIC_WORKERS = 16


def automatic_num_workers(num_workers: int) -> int:
    """Return ``num_workers``, or for 0 as many as this process may use cores, at most 16."""
    return num_workers or min(_num_cores(), MAX_AUTOMATIC_WORKERS)


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def ordered_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    num_workers: int,
    *,
    worth_a_thread: Callable[[Item], bool] = lambda _item: True,
) -> Generator[Result, None, None]:
    """Yield ``function(item)`` for each item, in the order of the items.

    Items are taken in the caller's thread, one when there is room for it: at most
    ``2 * num_workers`` are taken and not yet yielded, so memory does not grow with their number.

    When the caller stops early, or ``items`` or ``function`` raises, what has not begun is
    cancelled, what runs is waited for, and the threads end.

    Args:
        function: Called in the threads.
        items: What it is called with; may be endless.
        num_workers: Number of threads, at least 1.
        worth_a_thread: Whether an item is handed to a thread; for the others ``function`` is called
            in the caller's thread when they are taken. Handing over costs about 0.1 ms.

    Raises:
        Exception: What ``items`` raised, or ``function`` for the item whose turn it is.
    """
    pool = ThreadPoolExecutor(num_workers, thread_name_prefix="ordered_map")
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            in_thread = worth_a_thread(item)
            submit = pool.submit if in_thread else _call_at_once
            pending.append(submit(function, item))
            del item  # it may be large, and nothing needs it until the next one is here
            if len(pending) == 2 * num_workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _call_at_once(function: Callable[[Item], Result], item: Item) -> Future[Result]:
    """Return the result as a future, so that an error comes when it is its turn."""
    future: Future[Result] = Future()
    try:
        future.set_result(function(item))
    except Exception as error:
        future.set_exception(error)
    return future
