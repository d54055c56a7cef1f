"""Independent work, spread over threads or processes: in order, a bounded part of it under way."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache, partial
from typing import Any, TypeVar

import torch
from torch import multiprocessing as mp

from lct_pipeline.core.ordered_map import ordered_map
from lct_pipeline.errors import UserError
from lct_pipeline.processes.children import begin, killed_message

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_AUTOMATIC_WORKERS = 16


def in_threads(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    num_workers: int,
    *,
    worth_a_thread: Callable[[Item], bool] = lambda _item: True,
) -> Generator[Result]:
    """Yield ``function(item)`` for each item, in order, called in threads.

    Threads, not processes: Pillow's codecs, hashlib and torch release the interpreter's lock, and
    what they return need not be copied. At most ``2 * num_workers`` items are taken and not yet
    yielded. When the caller stops early, what runs is waited for, and the threads end.

    Args:
        function: Called in the threads.
        items: What it is called with; may be endless.
        num_workers: Number of threads; 0 is as many as this process may use cores, at most 16.
        worth_a_thread: Whether an item is handed to a thread, which costs about 0.1 ms; for the
            others ``function`` is called in the caller's thread when they are taken.
    """
    num_workers = num_workers or min(_num_cores(), MAX_AUTOMATIC_WORKERS)
    with ThreadPoolExecutor(num_workers, thread_name_prefix="in_threads") as pool:

        def submit(call: Callable[[Item], Result], item: Item) -> Future[Result]:
            return (pool.submit if worth_a_thread(item) else call_at_once)(call, item)

        yield from ordered_map(function, items, submit, 2 * num_workers)


def call_at_once(function: Callable[[Item], Result], item: Item) -> Future[Result]:
    """Return the result as a future, so that an error comes when it is its turn."""
    future: Future[Result] = Future()
    try:
        future.set_result(function(item))
    except Exception as error:
        future.set_exception(error)
    return future


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Workers:
    """Processes, one per GPU, each with a function that it makes once; or this process.

    Args:
        make: Returns the function; can be sent to another process.
        title: What the processes do, for messages.
        num_processes: How many; 1 is this one.
        device: Where they compute.
    """

    def __init__(
        self,
        make: Callable[[], Callable[[Any], Any]],
        title: str,
        num_processes: int,
        device: torch.device,
    ) -> None:
        self._title = title
        self._pool: ProcessPoolExecutor | None = None
        self._map: Callable[[Iterable[Any]], Iterator[Any]]
        if num_processes == 1:
            self._map = partial(map, make())
            return
        context = mp.get_context("spawn")
        ranks = context.SimpleQueue()
        for rank in range(num_processes):
            ranks.put(rank)
        threads = max(1, torch.get_num_threads() // num_processes)
        self._pool = ProcessPoolExecutor(
            num_processes, context, _begin, (make, ranks, device, threads)
        )
        for _ in range(num_processes):
            # all begin now: one that began while Python 3.11 ends a broken pool would be waited for
            self._pool.submit(int)
        self._map = partial(
            ordered_map, _call, submit=self._pool.submit, ahead=2 * num_processes
        )

    def map(self, items: Iterable[Any]) -> Iterator[Any]:
        """Yield the function's result for each item, in order.

        Raises:
            UserError: A process was killed.
            Exception: What the function, or what makes it, raised.
        """
        try:
            yield from self._map(items)
        except BrokenProcessPool as error:
            raise UserError(killed_message(self._title)) from error

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


_HELD: dict[str, Callable[[], Any]] = {}  # by this process, which is one of several


def _begin(
    make: Callable[[], Any], ranks: Any, device: torch.device, num_threads: int
) -> None:
    _HELD["make"] = make
    begin(ranks.get(), device, num_threads)


@cache
def _function() -> Callable[[Any], Any]:
    """Return the function, made at the first call: an error is then that of an item."""
    return _HELD["make"]()


def _call(item: Any) -> Any:
    return _function()(item)
