"""Processes of this machine that do one thing together, one per GPU.

They meet in a file of a private folder, and the sockets that they open to each other are bound to
loopback: nothing listens where another machine could reach it.
"""

from __future__ import annotations

import io
import os
import pickle
import queue
import socket
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed
from torch import multiprocessing as mp

from lct_pipeline.core.batches import Ranks
from lct_pipeline.errors import UserError
from lct_pipeline.processes.children import begin, check_devices, killed_message

POLL_SECONDS = 0.5
GRACE_SECONDS = 5  # in which processes end when one of them failed


@dataclass(frozen=True)
class _Joint:
    """What each process gets.

    Items are sent as bytes: tensors would be sent as file descriptors of shared memory, and a
    container has little of both.
    """

    work: bytes
    title: str
    num_processes: int
    device: torch.device
    num_threads: int
    folder: str
    outputs: Any  # queue: items of the first process, an error of any, None at the end
    taken: Any  # semaphore: items that are done with


def run_together(
    work: Callable[[Ranks], Iterator[Any]],
    title: str,
    num_processes: int,
    device: torch.device,
) -> Iterator[Any]:
    """Yield what ``work`` yields in the first of several processes, or in this one.

    An item is done with when the next is asked for: the first process waits until then, and the
    others for the first. When the caller stops early, they are ended.

    Args:
        work: Called in each process with its ranks, joined in a process group; can be sent. What
            processes after the first yield is dropped.
        title: What the processes do, for messages.
        num_processes: How many; 1 is this one.
        device: One GPU for each process where it is cuda, else the same for all.

    Raises:
        ParameterError: The device takes fewer processes.
        UserError: A process was killed.
        BaseException: What a process raised.
    """
    if num_processes == 1:
        yield from work(Ranks(0, 1, device))
        return
    check_devices(num_processes, device)
    context = mp.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:  # only its owner may enter
        joint = _Joint(
            work=_packed(work),
            title=title,
            num_processes=num_processes,
            device=device,
            num_threads=max(1, torch.get_num_threads() // num_processes),
            folder=folder,
            outputs=context.Queue(),
            taken=context.Semaphore(0),
        )
        processes = mp.spawn(_process, (joint,), num_processes, join=False)
        assert processes is not None
        try:
            yield from _items(joint, processes)
        except mp.ProcessExitedException as error:
            raise UserError(killed_message(title)) from error
        finally:
            for process in processes.processes:
                process.terminate()
            for process in processes.processes:
                process.join()


def _items(joint: _Joint, processes: mp.ProcessContext) -> Iterator[Any]:
    """Yield the items of the first process until it has ended."""
    while True:
        try:
            found = joint.outputs.get(timeout=POLL_SECONDS)
        except queue.Empty:
            processes.join(timeout=0)  # raises where one was killed
            continue
        if found is None:
            return
        item = torch.load(io.BytesIO(found), "cpu", weights_only=False)
        if isinstance(item, BaseException):
            # it may suffer from one that was killed, which then is the error
            any(processes.join(timeout=1) for _ in range(GRACE_SECONDS))
            raise item
        yield item
        joint.taken.release()


def _packed(item: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(item, buffer, pickle_protocol=pickle.HIGHEST_PROTOCOL)
    return buffer.getvalue()


def _process(rank: int, joint: _Joint) -> None:
    """Work as one of the processes; hand over the items of the first, or the error."""
    begin(rank, joint.device, joint.num_threads)
    work = torch.load(io.BytesIO(joint.work), weights_only=False)
    try:
        with _process_group(rank, joint) as ranks:
            for item in work(ranks):
                if rank == 0:
                    joint.outputs.put(_packed(item))
                    joint.taken.acquire()
        if rank == 0:
            joint.outputs.put(None)
    except BaseException as error:
        error.add_note(f"In a {joint.title} process:\n{traceback.format_exc()}")
        joint.outputs.put(_packed(error))


@contextmanager
def _process_group(rank: int, joint: _Joint) -> Iterator[Ranks]:
    """Join the processes, on the loopback interface alone: ``lo``, or ``lo0`` of macOS."""
    names = [name for _, name in socket.if_nameindex()]
    loopback = next(name for name in names if name.startswith("lo"))
    os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = loopback
    on_gpu = joint.device.type == "cuda"
    distributed.init_process_group(
        "nccl" if on_gpu else "gloo",
        store=distributed.FileStore(f"{joint.folder}/store", joint.num_processes),
        rank=rank,
        world_size=joint.num_processes,
    )
    device = torch.device("cuda", rank) if on_gpu else joint.device
    try:
        yield Ranks(rank, joint.num_processes, device)
    finally:
        distributed.destroy_process_group()
