"""Work in threads and processes: in order, bounded, and ended with its consumer."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import torch
from forking import fork_in_place_of_spawning

from lct_pipeline.errors import UserError
from lct_pipeline.processes.mapping import Workers, in_threads

PATIENCE = 30.0  # seconds after which a test that waits has failed


CPU = torch.device("cpu")


def threads_of_maps() -> int:
    return sum(t.name.startswith("in_threads") for t in threading.enumerate())


@pytest.mark.parametrize("num_workers", [0, 1, 5])
@pytest.mark.parametrize("count", [0, 1, 40])
def test_results_come_in_the_order_of_the_items(num_workers: int, count: int) -> None:
    results = in_threads(lambda number: number**2, range(count), num_workers)
    assert list(results) == [number**2 for number in range(count)]
    assert threads_of_maps() == 0


def test_as_many_items_as_workers_are_worked_on_together() -> None:
    together = threading.Barrier(3, timeout=PATIENCE)
    waited = in_threads(lambda _: together.wait(), range(6), num_workers=3)
    assert sorted(waited) == [0, 0, 1, 1, 2, 2]


def test_the_error_of_the_series_itself_is_raised() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        list(in_threads(str, broken(), num_workers=2))
    assert threads_of_maps() == 0


def test_threads_end_when_the_consumer_stops_and_nothing_more_is_begun() -> None:
    begun: list[int] = []
    results = in_threads(begun.append, range(1000), num_workers=2)
    next(results)
    results.close()
    assert threads_of_maps() == 0
    assert len(begun) <= 1 + 2 * 2


def test_what_is_not_worth_a_thread_is_done_by_the_caller_in_its_turn() -> None:
    def where(number: int) -> tuple[int, bool]:
        return number, threading.current_thread() is threading.main_thread()

    results = in_threads(
        where, range(20), num_workers=2, worth_a_thread=lambda number: number % 3 == 0
    )
    assert list(results) == [(number, number % 3 != 0) for number in range(20)]


@pytest.mark.parametrize("in_thread", [True, False])
def test_the_error_of_an_item_comes_when_it_is_its_turn(in_thread: bool) -> None:
    results = in_threads(
        lambda number: 12 // (3 - number),
        range(9),
        num_workers=2,
        worth_a_thread=lambda number: in_thread or number != 3,
    )
    assert [next(results) for _ in range(3)] == [4, 6, 12]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert threads_of_maps() == 0


def make_divider() -> Callable[[int], tuple[float, int]]:
    made_in = os.getpid()
    return lambda number: (12 / number, made_in)


def make_nothing() -> Any:
    raise ValueError("no weights")


def workers(make: Callable[[], Any], num_processes: int) -> Any:
    return closing(Workers(make, "test", num_processes, CPU))


@pytest.mark.parametrize("num_processes", [1, 2])
def test_workers_make_their_function_once_and_their_results_come_in_order(
    monkeypatch: pytest.MonkeyPatch, num_processes: int
) -> None:
    fork_in_place_of_spawning(monkeypatch)
    with workers(make_divider, num_processes) as pool:
        found = list(pool.map(range(1, 9)))
        with pytest.raises(ZeroDivisionError):
            list(pool.map([3, 0, 3]))
    assert [value for value, _ in found] == [12 / number for number in range(1, 9)]
    assert len({pid for _, pid in found}) <= num_processes
    assert (os.getpid() in {pid for _, pid in found}) == (num_processes == 1)
    assert not multiprocessing.active_children()


def test_what_keeps_workers_from_beginning_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fork_in_place_of_spawning(monkeypatch)
    with (
        workers(make_nothing, 2) as pool,
        pytest.raises(ValueError, match="no weights"),
    ):
        list(pool.map([1]))


def test_workers_that_are_killed_are_one_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fork_in_place_of_spawning(monkeypatch)
    with workers(make_divider, 2) as pool:
        ((_, pid),) = pool.map([1])
        os.kill(pid, signal.SIGKILL)
        message = r"of the test was killed, perhaps for want of memory.*num_processes"
        for _ in range(2):  # at first perhaps not noticed yet
            with pytest.raises(UserError, match=message):
                list(pool.map(range(1, 90)))
    assert not multiprocessing.active_children()
