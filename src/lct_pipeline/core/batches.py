"""The batch of a training step: which samples, their noise, its coupling and the levels.

All of it is a function of (seed, step). For an accelerator it is made ahead of the step, in a
thread of its own, so that reading and optimal transport cost the step no time; where a CPU trains,
whose cores are all busy, a thread beside it would halve the speed, and it is made in turn. In a run
of several processes each makes the whole batch and keeps its part: what is trained does not depend
on their number.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, distributed

from lct_pipeline.core.coupling import optimal_transport_coupling
from lct_pipeline.core.levels import LevelSchedule
from lct_pipeline.core.objectives import Batch, Levels
from lct_pipeline.core.ordered_map import ordered_map
from lct_pipeline.core.preconditioning import level_type
from lct_pipeline.core.randomness import derived_generator


@dataclass(frozen=True)
class Ranks:
    """This process's number, how many there are, and its device."""

    rank: int
    num_processes: int
    device: torch.device

    def part(self, batch_size: int) -> slice:
        """Return which samples of a batch this process takes; the parts differ by one at most."""
        start, stop = (
            batch_size * r // self.num_processes for r in (self.rank, self.rank + 1)
        )
        return slice(start, stop)

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of ``values`` over all processes."""
        if self.num_processes > 1:
            distributed.all_reduce(values)
        return values

    def maximum(self, values: Tensor) -> Tensor:
        """Return the largest of ``values`` over all processes."""
        if self.num_processes > 1:
            distributed.all_reduce(values, distributed.ReduceOp.MAX)
        return values


Coupling = Literal["independent", "batch", "process"]


class PreparedBatch(NamedTuple):
    """One process's part of a step's batch.

    ``batch_size`` and ``num_small_noise`` count the samples of the whole batch, and those of them
    with the diffusion loss; ``coupling_seconds`` is what optimal transport took.
    """

    step: int
    batch: Batch
    levels: Levels
    batch_size: int
    num_small_noise: int
    coupling_seconds: float

    def used_here(self) -> PreparedBatch:
        """Tell a GPU's allocator that the present stream uses these tensors, made on another."""
        for tensor in (*self.batch, *self.levels):
            if tensor is not None and tensor.is_cuda:
                tensor.record_stream(torch.cuda.current_stream(tensor.device))
        return self

    def split(self, num_parts: int) -> Iterator[tuple[Batch, Levels]]:
        """Yield the batch in ``num_parts`` parts of about the same size, none empty."""
        for part in np.array_split(np.arange(len(self.batch.x)), num_parts):
            if len(part):
                at = slice(part[0], part[-1] + 1)
                yield self.batch.part(at), self.levels.part(at)


class EpochOrder:
    """Which items a step sees: every item once per epoch, in an order drawn anew each epoch.

    Args:
        num_items: Number of items.
        batch_size: Items a step; may exceed ``num_items``.
        seed: Seed of the orders.
    """

    def __init__(self, num_items: int, batch_size: int, seed: int) -> None:
        self._num_items = num_items
        self._batch_size = batch_size
        self._permutation = lru_cache(maxsize=2)(
            lambda epoch: np.random.default_rng([seed, epoch]).permutation(num_items)
        )

    def batch(self, step: int) -> np.ndarray:
        """Return the item indices of a step, ``(batch_size,)``."""
        positions = np.arange(step * self._batch_size, (step + 1) * self._batch_size)
        epochs, places = np.divmod(positions, self._num_items)
        return np.concatenate(
            [self._permutation(int(e))[places[epochs == e]] for e in np.unique(epochs)]
        )


@dataclass(frozen=True)
class BatchPreparation:
    """From a step to its prepared batch.

    Attributes:
        read: Returns the normalised latents ``(B, C, H, W)`` of a step and their classes ``(B,)``.
        schedule: Draws the levels.
        coupling: How noise is coupled with latents: ``independent``; by optimal transport over the
            whole ``batch``; or over each ``process``'s part, which is cheaper where many share it.
        seed: Seed of noise and levels.
        ranks: Which part of the batch this process takes.
    """

    read: Callable[[int], tuple[Tensor, Tensor | None]]
    schedule: LevelSchedule
    coupling: Coupling
    seed: int
    ranks: Ranks

    def __call__(self, step: int) -> PreparedBatch:
        """Return the batch of a step, on the device of its latents."""
        with _beside_the_training(self.ranks.device):
            x, labels = self.read(step)
            generator = derived_generator(self.seed, "training", step)
            eps = torch.randn(x.shape, generator=generator).to(x.device)
            levels = self.schedule.draw(step, len(x), generator, 0)
            whole = Batch(x, eps, labels)
            batch, seconds = self._coupled(whole)
        t, r = (v.to(x.device, level_type(x.device)) for v in (levels.t, levels.r))
        mine = Levels(t, r, levels.small_noise.to(x.device)).part(
            self.ranks.part(len(x))
        )
        num_small_noise = int(levels.small_noise.sum())
        return PreparedBatch(step, batch, mine, len(x), num_small_noise, seconds)

    def _coupled(self, whole: Batch) -> tuple[Batch, float]:
        """Return this process's part, coupled, and the seconds that coupling took."""
        own = self.ranks.part(len(whole.x))
        part = whole.part(own)
        if self.coupling == "independent":
            return part, 0.0
        started = time.perf_counter()
        if self.coupling == "batch":
            part = part._replace(eps=optimal_transport_coupling(*whole)[own])
        else:
            part = part._replace(eps=optimal_transport_coupling(*part))
        return part, time.perf_counter() - started


def prepared_in_turn(
    prepare: Callable[[int], PreparedBatch], first: int, last: int
) -> Iterator[tuple[PreparedBatch, float]]:
    """Yield the batches of the steps ``first`` to ``last - 1``, and the seconds each took."""
    yield from _timed(map(prepare, range(first, last)))


def prepared_ahead(
    prepare: Callable[[int], PreparedBatch], first: int, last: int
) -> Iterator[tuple[PreparedBatch, float]]:
    """Yield the batches of the steps ``first`` to ``last - 1``, and the seconds waited for each.

    A thread is two batches ahead. An error in it is raised here.
    """
    with ThreadPoolExecutor(1, "prepare batches") as thread:
        batches = ordered_map(prepare, range(first, last), thread.submit, ahead=3)
        with closing(batches):
            yield from _timed(batches)


def _timed(batches: Iterator[PreparedBatch]) -> Iterator[tuple[PreparedBatch, float]]:
    started = time.perf_counter()
    for batch in batches:
        yield batch.used_here(), time.perf_counter() - started
        started = time.perf_counter()


@contextmanager
def _beside_the_training(device: torch.device) -> Iterator[None]:
    """Run on a stream of its own on a GPU: what is queued for training is not waited for."""
    if device.type != "cuda":
        yield
        return
    stream = _side_stream(device)
    with torch.cuda.stream(stream):
        yield
    stream.synchronize()


@lru_cache(maxsize=1)
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
