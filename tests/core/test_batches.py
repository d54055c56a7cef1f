from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from describing import INDEX
from torch import Tensor

from lct_pipeline.core.batches import (
    BatchPreparation,
    Coupling,
    EpochOrder,
    PreparedBatch,
    Ranks,
    prepared_ahead,
    prepared_in_turn,
)
from lct_pipeline.core.coupling import optimal_transport_coupling
from lct_pipeline.core.objectives import Batch
from lct_pipeline.core.randomness import derived_generator

CPU = torch.device("cpu")


SHAPE = (2, 3, 3)


SIZE = 12


SCHEDULE = replace(INDEX, s1=40, num_steps=30)


def read(step: int) -> tuple[Tensor, None]:
    return 0.5 * torch.randn(SIZE, *SHAPE, generator=derived_generator(0, step)), None


def read_labelled(step: int) -> tuple[Tensor, Tensor]:
    """Return latents of a class each: in class k they lie around k."""
    x, _ = read(step)
    labels = torch.randint(3, (SIZE,), generator=derived_generator(1, step))
    return x + labels.reshape(-1, 1, 1, 1), labels


PREPARE = BatchPreparation(
    read=read,
    schedule=SCHEDULE,
    coupling="batch",
    seed=5,
    ranks=Ranks(0, 1, CPU),
)


def prepared(step: int) -> PreparedBatch:
    return PREPARE(0)._replace(step=step)


def tensors_of(item: PreparedBatch) -> list[Tensor]:
    return [v for v in (*item.batch, *item.levels) if v is not None]


def same(first: PreparedBatch, second: PreparedBatch) -> bool:
    pairs = zip(tensors_of(first), tensors_of(second), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(("num_items", "batch_size"), [(7, 3), (8, 4), (7, 20), (1, 5)])
def test_every_item_is_seen_once_per_epoch(num_items: int, batch_size: int) -> None:
    order = EpochOrder(num_items, batch_size, seed=0)
    batches = [order.batch(step) for step in range(num_items * 3)]
    assert all(batch.shape == (batch_size,) for batch in batches)
    items = np.concatenate(batches)
    epochs = items.reshape(-1, num_items)
    assert (np.sort(epochs, axis=1) == np.arange(num_items)).all()


def test_a_step_sees_the_same_items_whatever_was_read_before() -> None:
    order = EpochOrder(11, 4, seed=2)
    in_turn = [order.batch(step) for step in range(12)]
    for step in (9, 0, 5, 11):
        assert np.array_equal(EpochOrder(11, 4, seed=2).batch(step), in_turn[step])
        assert np.array_equal(order.batch(step), in_turn[step])
    epochs = {
        tuple(EpochOrder(20, 20, seed).batch(n)) for n in range(10) for seed in (0, 1)
    }
    assert len(epochs) == 20  # each has an order of its own


@pytest.mark.parametrize("coupling", ["independent", "batch", "process"])
def test_a_step_has_the_same_batch_whenever_it_is_prepared(coupling: Coupling) -> None:
    prepare = replace(PREPARE, coupling=coupling)
    in_turn = [prepare(step) for step in range(4)]
    torch.manual_seed(1)
    np.random.seed(1)
    for step in (3, 0, 2):
        assert same(prepare(step), in_turn[step])
    assert not any(same(a, b) for a, b in itertools.pairwise(in_turn))
    assert not same(replace(prepare, seed=6)(0), in_turn[0])


@pytest.mark.parametrize("step", [0, 12, 29])
def test_a_batch_has_the_latents_of_its_step_and_the_levels_of_its_stage(
    step: int,
) -> None:
    found = PREPARE(step)
    assert found.step == step
    assert found.batch_size == SIZE
    assert torch.equal(found.batch.x, read(step)[0])
    sigmas, _ = SCHEDULE.grid(SCHEDULE.num_levels(step))
    n = torch.searchsorted(sigmas, found.levels.t)
    assert torch.equal(sigmas[n], found.levels.t)
    assert torch.equal(sigmas[n - 1], found.levels.r)
    assert found.levels.t.dtype == torch.float64
    assert found.num_small_noise == int(found.levels.small_noise.sum())


def parts_of(
    prepare: BatchPreparation, num_processes: int, step: int = 0
) -> list[PreparedBatch]:
    return [
        replace(prepare, ranks=Ranks(rank, num_processes, CPU))(step)
        for rank in range(num_processes)
    ]


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("num_processes", [2, 5])
@pytest.mark.parametrize("coupling", ["independent", "batch"])
def test_the_parts_of_all_processes_are_the_batch_of_one(
    coupling: Coupling, num_processes: int, labelled: bool
) -> None:
    reader = read_labelled if labelled else read
    prepare = replace(PREPARE, read=reader, coupling=coupling)
    whole = prepare(2)
    parts = parts_of(prepare, num_processes, step=2)
    columns = zip(*(tensors_of(part) for part in parts), strict=True)
    for column, expected in zip(columns, tensors_of(whole), strict=True):
        assert torch.equal(torch.cat(column), expected)
    assert {part.batch_size for part in parts} == {SIZE}
    assert {part.num_small_noise for part in parts} == {whole.num_small_noise}
    assert sum(len(part.batch.x) for part in parts) == SIZE


def threads() -> set[threading.Thread]:
    return set(threading.enumerate())


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = threads()
    yield
    assert threads() <= before


@pytest.mark.parametrize(("first", "last"), [(0, 1), (0, 7), (3, 6), (4, 4), (5, 4)])
def test_batches_come_in_order_and_each_once(first: int, last: int) -> None:
    steps: list[int] = []

    def prepare(step: int) -> PreparedBatch:
        steps.append(step)
        return prepared(step)

    found = [item.step for item, _ in prepared_ahead(prepare, first, last)]
    assert found == steps == list(range(first, last))


def test_the_next_batches_are_prepared_before_a_step_asks_for_them() -> None:
    done = [threading.Event() for _ in range(5)]

    def prepare(step: int) -> PreparedBatch:
        done[step].set()
        return prepared(step)

    for item, _ in prepared_ahead(prepare, 0, 5):
        for ahead in done[item.step : item.step + 3]:  # while this step is under way
            assert ahead.wait(timeout=10)


def test_no_more_than_two_batches_are_prepared_ahead() -> None:
    latest: list[int] = []

    def prepare(step: int) -> PreparedBatch:
        latest.append(step)
        return prepared(step)

    batches = prepared_ahead(prepare, 0, 20)
    next(batches)
    time.sleep(0.3)
    assert latest[-1] <= 2
    batches.close()  # type: ignore[attr-defined]


class ReadError(Exception):
    pass


@pytest.mark.parametrize("failing", [0, 3])
@pytest.mark.parametrize("error", [ReadError, KeyboardInterrupt])
def test_an_error_in_the_thread_is_raised_where_its_batch_is_asked_for(
    error: type[BaseException], failing: int
) -> None:
    def prepare(step: int) -> PreparedBatch:
        if step == failing:
            raise error(f"at step {step}")
        return prepared(step)

    found = []
    with pytest.raises(error, match=f"at step {failing}"):
        for item, _ in prepared_ahead(prepare, 0, 5):
            found.append(item.step)
    assert found == list(range(failing))


def test_in_turn_no_batch_is_made_before_it_is_asked_for() -> None:
    made: list[int] = []

    def prepare(step: int) -> PreparedBatch:
        made.append(step)
        return PREPARE(step)

    batches = prepared_in_turn(prepare, 2, 5)
    item, seconds = next(batches)
    assert made == [2]
    assert item.step == 2
    assert seconds > 0
    assert [item.step for item, _ in batches] == [3, 4]


@pytest.mark.parametrize("coupling", ["batch", "process"])
def test_coupling_orders_the_noise_of_the_whole_batch_or_of_each_part(
    coupling: Coupling,
) -> None:
    independent = parts_of(replace(PREPARE, coupling="independent"), 2)
    coupled = parts_of(replace(PREPARE, coupling=coupling), 2)
    groups = zip(coupled, independent, strict=True)
    for pairs in [[pair] for pair in groups] if coupling == "process" else [groups]:
        found, plain = (
            Batch(
                *(torch.cat(v) for v in zip(*(p.batch[:2] for p in parts), strict=True))
            )
            for parts in zip(*pairs, strict=True)
        )
        assert torch.equal(found.x, plain.x)
        assert torch.equal(found.eps, optimal_transport_coupling(plain.x, plain.eps))
    assert all(part.coupling_seconds > 0 for part in coupled)
    for found, plain in zip(coupled, independent, strict=True):
        assert plain.coupling_seconds == 0
        assert all(map(torch.equal, found.levels, plain.levels))
