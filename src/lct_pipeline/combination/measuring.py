"""Measures candidates, in this process or in several: weights through one shared buffer.

The weights of a group of candidates are combined once, into memory that all processes see; a
process gets the number of a row. So checkpoints are read once however many processes there are,
and the figures do not depend on their number.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch import multiprocessing as mp

from lct_pipeline.combination.fitness import Fitness, Request, Score
from lct_pipeline.combination.sources import SourceTask
from lct_pipeline.combination.weights import CombinedWeights
from lct_pipeline.core.linear_combination import WeightLayout
from lct_pipeline.errors import DataError
from lct_pipeline.evaluation.feature_spaces import RealImages
from lct_pipeline.models.device import limit_threads

_WORKER: dict[str, Any] = {}  # what a process of its own holds, set once


class Measurer:
    """Measures coefficients over all members.

    Args:
        weights: Gives combinations.
        task: What to generate with.
        real: What to compare with.
        most: No more candidates than these are measured at a time.
    """

    def __init__(
        self,
        weights: CombinedWeights,
        task: SourceTask,
        real: RealImages,
        most: int,
    ) -> None:
        self._weights = weights
        num_rows = min(most, weights.group_size)
        self._buffer = torch.empty(num_rows, weights.num_weights)
        self._fitness: Fitness | None = None
        self._pool: ProcessPoolExecutor | None = None
        num_processes = min(task.runtime.num_processes, num_rows)
        if num_processes == 1:
            self._fitness = Fitness(task, real)
        else:
            self._buffer.share_memory_()
            self._pool = _pool(num_processes, task, real, weights.layout, self._buffer)

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def measure(
        self, alphas: np.ndarray, request: Request, skip: frozenset[int] = frozenset()
    ) -> Iterator[tuple[int, Score]]:
        """Yield the number of a candidate and its score, as soon as it is known.

        Args:
            alphas: Coefficients of all candidates, ``(P, K)``. They are combined in groups that
                depend on P alone, so what is left of a generation gets the same weights.
            request: How they are measured.
            skip: Candidates that are known already.
        """
        size = len(self._buffer)
        for start in range(0, len(alphas), size):
            numbers = range(start, min(start + size, len(alphas)))
            left = {n - start: n for n in numbers if n not in skip}
            if left:
                group = alphas[numbers.start : numbers.stop]
                self._weights.combine(group, self._buffer[: len(group)].numpy())
                for row, score in self._scores(list(left), request):
                    yield left[row], score

    def _scores(self, rows: list[int], request: Request) -> Iterator[tuple[int, Score]]:
        if self._pool is None:
            assert self._fitness is not None
            for row in rows:
                weights = self._weights.layout.unflatten(self._buffer[row].numpy())
                yield row, self._fitness.measure(weights, request)
            return
        try:
            futures: dict[Future[Score], int] = {
                self._pool.submit(_measure_row, row, request): row for row in rows
            }
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise DataError(
                "a process of the search was killed, perhaps for want of memory: what is "
                "evaluated is saved, and the same command goes on, with fewer processes if "
                "runtime.num_processes is lowered."
            ) from error


def _pool(
    num_processes: int,
    task: SourceTask,
    real: RealImages,
    layout: WeightLayout,
    buffer: Tensor,
) -> ProcessPoolExecutor:
    """Return processes, one for each GPU where there are some, sharing the buffer."""
    context = mp.get_context("spawn")
    counter = context.Value("i", 0)
    threads = max(1, torch.get_num_threads() // num_processes)
    return ProcessPoolExecutor(
        num_processes,
        mp_context=context,
        initializer=_start_worker,
        initargs=(counter, threads, task, real, layout, buffer),
    )


def _start_worker(
    counter: Any,
    threads: int,
    task: SourceTask,
    real: RealImages,
    layout: WeightLayout,
    buffer: Tensor,
) -> None:
    """Prepare this process, and end it when its parent is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    limit_threads(threads)
    with counter.get_lock():
        number = counter.value
        counter.value += 1
    if torch.cuda.is_available() and task.runtime.device in ("auto", "cuda"):
        torch.cuda.set_device(number % torch.cuda.device_count())
    _WORKER.update(layout=layout, buffer=buffer)
    try:
        _WORKER["fitness"] = Fitness(task, real)
    except Exception as error:  # raised, it would look like a process that was killed
        _WORKER["fault"] = error


def _end_with(parent: Any) -> None:
    """End this process when its parent is killed, which would leave it waiting for ever."""
    parent.join()
    os._exit(1)


def _measure_row(row: int, request: Request) -> Score:
    if "fault" in _WORKER:
        raise _WORKER["fault"]
    weights = _WORKER["layout"].unflatten(_WORKER["buffer"][row].numpy())
    score = _WORKER["fitness"].measure(weights, request)
    if score.gradients is None:
        return score
    return replace(score, gradients={k: g.cpu() for k, g in score.gradients.items()})
