"""What training yields does not depend on how it is computed, and nothing of its processes stays.

Compilation and processes change the order of sums alone: losses agree to ``TOLERANCE`` relative
(1.4e-7 was measured), weights to ``WEIGHTS`` absolute (4e-7). The network learns fast here, so that
its outputs matter: dropout moves the losses by 6e-4, and ten steps move weights by 0.1.

Each training in two processes has two real ones: those of the first are started as a user's, which
takes as long as importing torch twice, the others are forked of a process that has imported it.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch

from conftest import SmokeResults, TrainingPiece
from lct_pipeline.core.batches import EpochOrder
from lct_pipeline.datasets.shards import Shard, ShardsDataset, ShardStore, ShardStream
from lct_pipeline.datasets.splits import indices_of
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import ParameterError, TrainingError, UserError

TOLERANCE = 1e-5
WEIGHTS = 1e-4
LIVELY: dict[str, Any] = {
    "num_steps": 10,
    "network.mlp.width": 16,
    "optimizer.name": "adamw",
    "optimizer.learning_rate": 0.01,
}
DROPOUT = {**LIVELY, "network.dropout": 0.3}
INDEPENDENT = {**LIVELY, "objective.coupling": "independent"}
LOSSES = ["loss", "consistency_loss", "diffusion_loss", "td_rms", "c", "gradient_norm"]


def losses(pieces: list[TrainingPiece]) -> np.ndarray:
    """Return the losses of each step, their parts, and what c is fitted to."""
    return pd.concat([piece.rows for piece in pieces])[LOSSES].to_numpy()


def assert_same_run(found: list[TrainingPiece], expected: list[TrainingPiece]) -> None:
    assert [piece.step for piece in found] == [piece.step for piece in expected]
    np.testing.assert_allclose(losses(found), losses(expected), rtol=TOLERANCE)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.state.metadata == theirs.state.metadata
        assert ours.checkpoints.keys() == theirs.checkpoints.keys()
        for name, checkpoint in theirs.checkpoints.items():
            assert_close(ours.checkpoints[name], checkpoint, rtol=0)
    assert_close(found[-1].state, expected[-1].state, rtol=1e-3)


def assert_close(found: TensorFile, expected: TensorFile, rtol: float) -> None:
    assert found.tensors.keys() == expected.tensors.keys()
    for name, tensor in expected.tensors.items():
        other = found.tensors[name]
        torch.testing.assert_close(other, tensor, rtol=rtol, atol=WEIGHTS)


@pytest.fixture(scope="module")
def plain(results: SmokeResults) -> list[TrainingPiece]:
    return list(results.train(LIVELY))


@pytest.fixture(scope="module")
def with_dropout(results: SmokeResults) -> list[TrainingPiece]:
    return list(results.train(DROPOUT))


def test_the_tolerance_tells_one_mask_of_dropout_from_another(
    plain: list[TrainingPiece], with_dropout: list[TrainingPiece]
) -> None:
    apart = np.abs(losses(plain) / losses(with_dropout) - 1).max()
    assert apart > 20 * TOLERANCE


def test_latents_kept_on_the_device_or_not_train_the_same(
    results: SmokeResults, plain: list[TrainingPiece]
) -> None:
    other = list(results.train(LIVELY, latents_on_device=False))
    assert np.array_equal(losses(other), losses(plain))


@pytest.fixture
def one_compiling_thread() -> Iterator[None]:
    """Compile in this process: a pool of others takes longer to start than it saves."""
    if shutil.which("g++") is None and shutil.which("cc") is None:
        pytest.skip("torch.compile needs a C++ compiler, and there is none")
    from torch._inductor import config

    with config.patch(compile_threads=1):
        yield


@pytest.mark.usefixtures("one_compiling_thread")
def test_compiled_it_trains_the_same(
    results: SmokeResults, plain: list[TrainingPiece]
) -> None:
    assert_same_run(list(results.train(LIVELY, compile=True)), plain)


@pytest.mark.usefixtures("one_compiling_thread")
def test_compiled_it_draws_the_same_dropout(
    results: SmokeResults, with_dropout: list[TrainingPiece]
) -> None:
    assert_same_run(list(results.train(DROPOUT, compile=True)), with_dropout)


# as /proc/net/tcp has them: 127.0.0.1 from its end
LISTENING, LOOPBACK = "0A", "0100007F"


def started() -> set[int]:
    """Return the process ids of this process's children."""
    return {process.pid for process in multiprocessing.active_children() if process.pid}


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def listened_on(pids: set[int]) -> set[str]:
    """Return the addresses, in hexadecimal, at which these processes take connections."""
    if not Path("/proc/net/tcp").exists():
        return set()
    files = [path for pid in pids for path in Path(f"/proc/{pid}/fd").iterdir()]
    own = {os.readlink(path) for path in files if path.is_symlink()}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            _, address, _, state, *_, inode = line.split()[:10]
            if state == LISTENING and f"socket:[{inode}]" in own:
                found.add(address.split(":")[0])
    return found


def assert_gone(pids: set[int]) -> None:
    assert len(pids) == 2
    assert [pid for pid in pids if is_alive(pid)] == []


@contextmanager
def few_open_files() -> Iterator[None]:
    """Allow fewer open files than a state has tensors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    already = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 64
    resource.setrlimit(resource.RLIMIT_NOFILE, (already + 80, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Together(NamedTuple):
    """A training in two processes: what it yielded, its processes, and what they listened on."""

    pieces: list[TrainingPiece]
    pids: set[int]
    addresses: set[str]


@pytest.fixture(scope="module")
def together(results: SmokeResults) -> Together:
    pieces, pids, addresses = [], set(), set()
    with few_open_files(), pytest.MonkeyPatch.context() as patch:
        # what a user may have set for other work must not make it listen outside
        patch.setenv("GLOO_SOCKET_IFNAME", socket.if_nameindex()[-1][1])
        for piece in results.train(LIVELY, num_processes=2):
            pieces.append(piece)
            pids |= started()
            addresses |= listened_on({os.getpid(), *started()})
    return Together(pieces, pids, addresses)


def test_two_processes_train_what_one_trains(
    together: Together, plain: list[TrainingPiece]
) -> None:
    assert_gone(together.pids)
    assert_same_run(together.pieces, plain)
    assert len(plain[-1].state.tensors) > 80  # more than files could be opened


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="not Linux")
def test_nothing_listens_where_another_machine_could_reach_it(
    together: Together,
) -> None:
    assert together.addresses == {LOOPBACK}


@pytest.fixture
def damaged(results: SmokeResults, tmp_path: Path) -> ShardStore:
    """Return latents that are not finite where the second process sees it first, in step 6."""
    latents = results.latents
    indices = indices_of(results.catalog.load("latent_manifest"), "train")
    parameters = results.training(INDEPENDENT)
    order = EpochOrder(len(indices), parameters.batch_size, parameters.seed)
    every = np.arange(len(latents))
    tensors = {name: latents.gather(name, every) for name in ("mean", "std")}
    tensors["mean"][indices[order.batch(6)[-2]]] = float("nan")
    dataset = ShardsDataset(path=str(tmp_path / "latents"))
    dataset.save(ShardStream(str(latents.fingerprint), [Shard(tensors)]))
    return dataset.load()


@pytest.mark.usefixtures("forked_processes")
def test_an_error_of_one_process_is_that_of_one_process_alone(
    results: SmokeResults, damaged: ShardStore
) -> None:
    messages, steps, pids = [], [], set()
    for num_processes in (1, 2):
        with pytest.raises(TrainingError) as caught:
            for piece in results.train(
                INDEPENDENT, latents=damaged, num_processes=num_processes
            ):
                steps.append(piece.step)
                pids |= started()
        messages.append(str(caught.value))
    assert messages[1] == messages[0]
    assert "In a training process:" in caught.value.__notes__[0]  # and its traceback
    assert "not finite at step 6" in messages[0] and "nan" not in messages[0]
    assert steps == [3, 5, 6] * 2
    assert_gone(pids)


@pytest.mark.usefixtures("forked_processes")
def test_a_process_that_is_killed_ends_the_training_with_one_message(
    results: SmokeResults,
) -> None:
    pieces = results.train(INDEPENDENT, num_processes=2)
    next(pieces)
    pids = started()
    os.kill(max(pids), signal.SIGKILL)
    with pytest.raises(UserError, match=r"of the training was killed.*num_processes"):
        list(pieces)
    assert_gone(pids)


@pytest.mark.usefixtures("forked_processes")
def test_a_training_that_is_closed_early_leaves_no_process(
    results: SmokeResults,
) -> None:
    state = next(results.train(INDEPENDENT)).state
    pieces = results.train(INDEPENDENT, state, num_processes=2)
    assert next(pieces).step == 5
    pids = started()
    pieces.close()
    assert_gone(pids)


def test_more_processes_than_samples_are_refused(results: SmokeResults) -> None:
    with pytest.raises(ParameterError, match=r"num_processes=17.*batch_size=16"):
        list(results.train({}, num_processes=17))
