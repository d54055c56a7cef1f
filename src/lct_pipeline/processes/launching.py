"""Processes that share a node's work, one per GPU.

They are started from inside the node by torch's elastic launcher, without running the script again.
What they hand over comes back in the order of its numbers, and none of them is ahead of what was
taken by more than it may be: memory is bounded, and what is on disk is in step with the work.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.multiprocessing as mp
from torch import distributed
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from lct_pipeline.core.ranks import Ranks
from lct_pipeline.errors import ParameterError, UserError

POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Handover:
    """The way from the processes to the one that started them."""

    outputs: Any  # queue of (rank, number, item), or of an error
    permits: Any  # a semaphore for each process: items that it may be ahead
    stopped: Any  # event: nobody takes any more

    def give(self, rank: int, number: int, item: Any) -> bool:
        """Hand over an item and wait until there is room for the next one.

        Items are sent by value: give arrays in place of tensors, which would be sent as file
        descriptors of shared memory, and a container has little of both.

        Args:
            rank: Of this process.
            number: Place of the item among those of all processes, from 0 on, without gaps.
            item: What to hand over.

        Returns:
            Whether to go on; False when nobody takes any more.
        """
        self.outputs.put((rank, number, item))
        while not self.permits[rank].acquire(timeout=POLL_SECONDS):
            if self.stopped.is_set():
                self.outputs.cancel_join_thread()
                return False
        return True


@dataclass(frozen=True)
class Launch:
    """What is started.

    Attributes:
        work: Called in each process with its ranks, the handover and ``arguments``; a function of a
            module.
        arguments: Sent to each process.
        title: What the processes do, for messages.
        num_processes: How many.
        device: One GPU for each process where it is cuda, else the same for all.
        num_threads: CPU threads of all together; 0 is one for each core.
        num_ahead: Items that a process may hand over before the first of them is done with. 0: it
            waits until each is.
    """

    work: Callable[..., None]
    arguments: tuple[Any, ...]
    title: str
    num_processes: int
    device: torch.device
    num_threads: int
    num_ahead: int


def check_devices(num_processes: int, device: torch.device) -> None:
    """Refuse more processes than the device takes.

    Raises:
        ParameterError: There are fewer GPUs, or the device takes one process only.
    """
    if device.type == "mps":
        raise ParameterError(
            f"runtime.num_processes={num_processes}: device mps takes one process only."
        )
    if device.type == "cuda" and num_processes > torch.cuda.device_count():
        raise ParameterError(
            f"runtime.num_processes={num_processes}: this machine has "
            f"{torch.cuda.device_count()} GPUs."
        )


def launched(launch: Launch) -> Iterator[Any]:
    """Start the processes and yield what they hand over, in the order of its numbers.

    An item is done with when the next is asked for. When the caller stops early, the processes end
    at their next item.

    Raises:
        UserError: A process ended without its own error.
        BaseException: What a process raised.
    """
    context = mp.get_context("spawn")
    permits = [context.Semaphore(launch.num_ahead) for _ in range(launch.num_processes)]
    handover = Handover(context.Queue(), permits, context.Event())
    failures: list[BaseException] = []
    launcher = threading.Thread(target=_run, args=(launch, handover, failures))
    launcher.start()
    try:
        yield from in_order(handover, launcher)
    finally:
        handover.stopped.set()
        launcher.join()
    if failures:
        raise UserError(f"a {launch.title} process failed: {failures[0]}")


def in_order(handover: Handover, launcher: threading.Thread) -> Iterator[Any]:
    """Yield the items in the order of their numbers until the launcher has ended.

    Raises:
        BaseException: What a process raised, as soon as it is known.
    """
    waiting: dict[int, tuple[int, Any]] = {}
    number = 0
    while (found := _next(handover.outputs, launcher)) is not None:
        if isinstance(found, BaseException):
            raise found
        waiting[found[1]] = found[0], found[2]
        while number in waiting:
            rank, item = waiting.pop(number)
            yield item
            handover.permits[rank].release()
            number += 1


def _next(outputs: Any, launcher: threading.Thread) -> Any:
    """Return what comes next; None when the processes have ended and all is taken."""
    while True:
        is_alive = launcher.is_alive()
        try:
            return outputs.get(timeout=POLL_SECONDS)
        except queue.Empty:
            if not is_alive:
                return None


def _run(launch: Launch, handover: Handover, failures: list[BaseException]) -> None:
    """Run the elastic launcher until all processes have ended."""
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=launch.num_processes,
        run_id=launch.title,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=0,
        start_method="spawn",
        monitor_interval=POLL_SECONDS,
    )
    # it warns that a thread cannot take signals: on Linux its processes end with this one; and it
    # writes the traceback of an error that is raised here all the same
    elastic = logging.getLogger("torch.distributed.elastic.multiprocessing.api")
    elastic.setLevel("CRITICAL")
    try:
        elastic_launch(config, _process)(launch, handover)
    except BaseException as error:
        failures.append(error)


def _process(launch: Launch, handover: Handover) -> None:
    """Work as one of the processes; hand over the error that ends it."""
    # what Linux sends when the node's process is gone; a job in the background would ignore it
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        launch.work(_ranks(launch), handover, *launch.arguments)
    except BaseException as error:
        error.add_note(f"In a {launch.title} process:\n{traceback.format_exc()}")
        handover.outputs.put(error)
        raise
    finally:
        if distributed.is_initialized():  # if the work is a joint one
            distributed.destroy_process_group()


def _ranks(launch: Launch) -> Ranks:
    """Return which process this is, on its own GPU and with its share of the CPU's threads."""
    rank, total = int(os.environ["RANK"]), launch.num_processes
    cores = launch.num_threads or os.cpu_count() or 1
    torch.set_num_threads(max(1, cores // total))
    device = launch.device
    if device.type == "cuda":
        device = torch.device("cuda", rank)
        torch.cuda.set_device(device)
    return Ranks(rank, total, device)
