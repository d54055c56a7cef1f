"""Training in one process, or in several that share each batch, one per GPU.

The processes are started from inside the node by torch's elastic launcher. The first of them
hands over what the catalog saves, and waits until it is saved: what is on disk is in step with
what was trained, as with one process.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lct_pipeline.datasets.tensor_file import TensorFile
from lct_pipeline.errors import ParameterError, TrainingError
from lct_pipeline.models.device import choose_device
from lct_pipeline.pipelines.training.worker import Output, TrainingTask, run_training

if TYPE_CHECKING:
    import torch

POLL_SECONDS = 0.5


def train_in_processes(task: TrainingTask) -> Iterator[Output]:
    """Yield what training yields, in ``runtime.num_processes`` processes.

    Raises:
        ParameterError: There are fewer GPUs than processes, or fewer samples in a batch.
        TrainingError: A process failed.
    """
    from lct_pipeline.core.ranks import Ranks

    device = choose_device(task.runtime.device)
    if task.runtime.num_processes == 1:
        for output in run_training(task, Ranks(0, 1, device)):
            assert output is not None  # this is the first process
            yield output
        return
    _check(task, device)
    yield from _launched(task, device)


def _check(task: TrainingTask, device: torch.device) -> None:
    import torch

    wanted = task.runtime.num_processes
    if device.type == "mps":
        raise ParameterError(
            f"runtime.num_processes={wanted}: device mps takes one process only."
        )
    if device.type == "cuda" and wanted > torch.cuda.device_count():
        raise ParameterError(
            f"runtime.num_processes={wanted}: this machine has {torch.cuda.device_count()} GPUs."
        )
    if wanted > task.parameters.batch_size:
        raise ParameterError(
            f"runtime.num_processes={wanted}: more than training.batch_size="
            f"{task.parameters.batch_size} samples to share."
        )


def _launched(task: TrainingTask, device: torch.device) -> Iterator[Output]:
    """Start the processes and yield what the first hands over."""
    import torch.multiprocessing as mp

    context = mp.get_context("spawn")
    outputs, saved, stopped = context.Queue(), context.Semaphore(0), context.Event()
    failures: list[BaseException] = []
    launcher = threading.Thread(
        target=_launch, args=(task, device.type, outputs, saved, stopped, failures)
    )
    launcher.start()
    try:
        while (item := _next(outputs, launcher)) is not None:
            if isinstance(item, BaseException):
                raise item
            yield _output(item, _tensors)
            saved.release()
    finally:
        stopped.set()
        launcher.join()
    if failures:
        raise TrainingError(f"a training process failed: {failures[0]}")


def _next(outputs: Any, launcher: threading.Thread) -> Any:
    """Return the next output; None when the processes have ended."""
    while True:
        try:
            return outputs.get(timeout=POLL_SECONDS)
        except queue.Empty:
            if not launcher.is_alive():
                return None


def _launch(
    task: TrainingTask,
    device_type: str,
    outputs: Any,
    saved: Any,
    stopped: Any,
    failures: list[BaseException],
) -> None:
    """Run the elastic launcher until all processes have ended."""
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=task.runtime.num_processes,
        run_id="training",
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
        elastic_launch(config, _process)(
            _task(task, _arrays), device_type, outputs, saved, stopped
        )
    except BaseException as error:
        failures.append(error)


def _process(
    task: TrainingTask, device_type: str, outputs: Any, saved: Any, stopped: Any
) -> None:
    """Train as one of the processes; the first puts into ``outputs`` what is to be saved."""
    import os
    import signal
    import traceback

    import torch
    from torch import distributed

    from lct_pipeline.core.ranks import Ranks

    # what Linux sends when the node's process is gone; a job in the background would ignore it
    signal.signal(signal.SIGINT, signal.default_int_handler)
    rank, total = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    cores = task.runtime.num_threads or os.cpu_count() or 1
    torch.set_num_threads(max(1, cores // total))
    device = torch.device(f"cuda:{rank}" if device_type == "cuda" else device_type)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        ranks = Ranks(rank, total, device)
        for output in run_training(_task(task, _tensors), ranks):
            is_over = 0
            if output is not None:
                outputs.put(_output(output, _arrays))
                is_over = int(_is_stopped(saved, stopped))
            if ranks.maximum(torch.tensor(is_over, device=device)):
                outputs.cancel_join_thread()  # nobody reads any more
                return
        if rank == 0:
            outputs.put(None)
    except BaseException as error:
        error.add_note(f"In a training process:\n{traceback.format_exc()}")
        outputs.put(error)
        raise
    finally:
        distributed.destroy_process_group()


def _is_stopped(saved: Any, stopped: Any) -> bool:
    """Wait until the last output is saved; return whether the process that saves is gone."""
    while not saved.acquire(timeout=POLL_SECONDS):
        if stopped.is_set():
            return True
    return False


def _arrays(file: TensorFile | None) -> TensorFile | None:
    """Return a file with arrays in place of tensors.

    A tensor is sent as a file descriptor of shared memory, and a container has little of both; an
    array is sent by value.
    """
    if file is None:
        return None
    arrays: Any = {k: v.detach().cpu().numpy() for k, v in file.tensors.items()}
    return replace(file, tensors=arrays)


def _tensors(file: TensorFile | None) -> TensorFile | None:
    """Return a file with its tensors again."""
    import torch

    if file is None:
        return None
    tensors = {k: torch.from_numpy(v) for k, v in file.tensors.items()}
    return replace(file, tensors=tensors)


def _task(task: TrainingTask, change: Callable[[Any], Any]) -> TrainingTask:
    return replace(
        task,
        first_stage=change(task.first_stage),
        previous_state=change(task.previous_state),
    )


def _output(output: Output, change: Callable[[Any], Any]) -> Output:
    files, rows, state = output
    return {name: change(file) for name, file in files.items()}, rows, change(state)
