"""What processes hand over: in order, and bounded. Threads stand in for them here.

Tests of training and encoding start real ones.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import torch

from lct_pipeline.errors import ParameterError
from lct_pipeline.processes import launching
from lct_pipeline.processes.launching import Handover, check_devices, in_order

NUM_ITEMS = 12


class Threads:
    """Workers that hand over each of ``num``-th numbers, the first of them slowly."""

    def __init__(self, num: int, num_ahead: int) -> None:
        permits = [threading.Semaphore(num_ahead) for _ in range(num)]
        self.outputs: queue.Queue[Any] = queue.Queue()
        self.outputs.cancel_join_thread = lambda: None  # type: ignore[attr-defined]
        self.handover = Handover(self.outputs, permits, threading.Event())
        self.given: list[list[int]] = [[] for _ in range(num)]
        self.workers = [
            threading.Thread(target=self._work, args=(rank,)) for rank in range(num)
        ]
        self.launcher = threading.Thread(target=self._launch)
        self.launcher.start()

    def _launch(self) -> None:
        for worker in self.workers:
            worker.start()
        for worker in self.workers:
            worker.join()

    def _work(self, rank: int) -> None:
        for number in range(rank, NUM_ITEMS, len(self.workers)):
            if rank == 0:
                time.sleep(0.01)
            self.given[rank].append(number)
            if not self.handover.give(rank, number, f"item {number}"):
                return

    def items(self) -> Iterator[Any]:
        return in_order(self.handover, self.launcher)


@pytest.fixture(autouse=True)
def short_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching, "POLL_SECONDS", 0.02)


@pytest.mark.parametrize("num", [1, 2, 3])
@pytest.mark.parametrize("num_ahead", [0, 1])
def test_items_come_in_order_and_nobody_is_further_ahead_than_allowed(
    num: int, num_ahead: int
) -> None:
    threads = Threads(num, num_ahead)
    found = []
    for number, item in enumerate(threads.items()):
        time.sleep(0.002)
        for given in threads.given:
            not_done = [n for n in given if n >= number]
            assert len(not_done) <= num_ahead + 1
        found.append(item)
    threads.launcher.join()
    assert found == [f"item {n}" for n in range(NUM_ITEMS)]


def test_workers_end_at_their_next_item_when_nobody_takes_any_more() -> None:
    threads = Threads(2, num_ahead=0)
    items = threads.items()
    assert next(items) == "item 0"
    threads.handover.stopped.set()
    threads.launcher.join(5)
    assert not threads.launcher.is_alive()
    assert max(len(given) for given in threads.given) <= 2


def test_an_error_is_raised_before_items_whose_turn_it_is_not() -> None:
    threads = Threads(2, num_ahead=1)
    threads.outputs.put(ValueError("of a process"))
    with (
        pytest.raises(ValueError, match="of a process"),
        closing(threads.items()) as items,  # type: ignore[type-var]
    ):
        list(items)
    threads.handover.stopped.set()
    threads.launcher.join(5)


@pytest.mark.parametrize(
    ("device", "reason"),
    [("cuda", "this machine has 1 GPUs"), ("mps", "device mps takes one process only")],
)
def test_more_processes_than_devices_are_refused(
    monkeypatch: pytest.MonkeyPatch, device: str, reason: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ParameterError, match=f"runtime.num_processes=2: {reason}"):
        check_devices(2, torch.device(device))
    check_devices(8, torch.device("cpu"))
