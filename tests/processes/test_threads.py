"""Work in threads: in order, bounded, and ended with its consumer."""

import os
import threading
from collections.abc import Iterator

import pytest

from lct_pipeline.processes.threads import automatic_num_workers, ordered_map

PATIENCE = 30.0  # seconds after which a test that waits has failed


def threads_of_maps() -> int:
    return sum(t.name.startswith("ordered_map") for t in threading.enumerate())


@pytest.mark.parametrize("num_workers", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 3, 40])
def test_results_come_in_the_order_of_the_items(num_workers: int, count: int) -> None:
    results = ordered_map(lambda number: number**2, range(count), num_workers)
    assert list(results) == [number**2 for number in range(count)]
    assert threads_of_maps() == 0


def test_a_slow_item_does_not_let_later_ones_pass() -> None:
    later_is_done = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            assert later_is_done.wait(PATIENCE)
        else:
            later_is_done.set()
        return number

    assert list(ordered_map(work, range(4), num_workers=2)) == [0, 1, 2, 3]


def test_as_many_items_as_workers_are_worked_on_together() -> None:
    together = threading.Barrier(3, timeout=PATIENCE)
    waited = ordered_map(lambda _: together.wait(), range(6), num_workers=3)
    assert sorted(waited) == [0, 0, 1, 1, 2, 2]


def test_an_endless_series_is_taken_only_as_far_as_there_is_room() -> None:
    taken: list[int] = []

    def endless() -> Iterator[int]:
        number = 0
        while True:
            taken.append(number)
            yield number
            number += 1

    results = ordered_map(str, endless(), num_workers=3)
    assert taken == []
    for done in range(1, 20):
        next(results)
        assert len(taken) <= done + 2 * 3 - 1
    results.close()


def test_the_error_of_an_item_comes_when_it_is_its_turn() -> None:
    results = ordered_map(lambda number: 12 // (3 - number), range(9), num_workers=2)
    assert [next(results) for _ in range(3)] == [4, 6, 12]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert threads_of_maps() == 0


def test_the_error_of_the_series_itself_is_raised() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        list(ordered_map(str, broken(), num_workers=2))
    assert threads_of_maps() == 0


def test_threads_end_when_the_consumer_stops_and_nothing_more_is_begun() -> None:
    begun: list[int] = []
    results = ordered_map(begun.append, range(1000), num_workers=2)
    next(results)
    results.close()
    assert threads_of_maps() == 0
    assert len(begun) <= 1 + 2 * 2


def test_what_is_not_worth_a_thread_is_done_by_the_caller_in_its_turn() -> None:
    def where(number: int) -> tuple[int, bool]:
        return number, threading.current_thread() is threading.main_thread()

    results = ordered_map(
        where, range(20), num_workers=2, worth_a_thread=lambda number: number % 3 == 0
    )
    assert list(results) == [(number, number % 3 != 0) for number in range(20)]


def test_an_error_of_the_caller_s_own_work_also_waits_for_its_turn() -> None:
    results = ordered_map(
        lambda number: 12 // (2 - number),
        range(9),
        num_workers=2,
        worth_a_thread=lambda number: number != 2,
    )
    assert [next(results), next(results)] == [6, 12]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_zero_workers_are_as_many_as_cores_at_most_16() -> None:
    assert automatic_num_workers(3) == 3
    assert 1 <= automatic_num_workers(0) <= min(16, os.cpu_count() or 1)
