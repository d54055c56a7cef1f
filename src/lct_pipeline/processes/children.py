"""What the processes of a node have in common: how one begins, and with whom it ends."""

from __future__ import annotations

import multiprocessing
import os
import threading
from typing import Any

import torch

from lct_pipeline.errors import ParameterError
from lct_pipeline.models.device import limit_threads


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


def begin(rank: int, device: torch.device, num_threads: int) -> None:
    """Prepare this process, the ``rank``-th: its end with its parent, its threads and its GPU."""
    parent = multiprocessing.parent_process()
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    limit_threads(num_threads)
    if device.type == "cuda":
        torch.cuda.set_device(rank % torch.cuda.device_count())


def _end_with(parent: Any) -> None:
    """End this process when its parent is killed, which would leave it waiting for ever."""
    parent.join()
    os._exit(1)


def killed_message(title: str) -> str:
    """Return what is said when a process has ended without an error of its own."""
    return (
        f"a process of the {title} was killed, perhaps for want of memory: what was done is "
        "saved, and the same command goes on, with fewer processes if runtime.num_processes "
        "is lowered."
    )
