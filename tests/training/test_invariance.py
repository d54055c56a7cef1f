"""The loss of a seeded run does not depend on how the run is computed.

Accumulation and compilation change the order of sums alone: losses agree to ``TOLERANCE``
relative (1.4e-7 was measured), weights after twelve steps to ``WEIGHTS`` absolute (4e-7; 1.2e-5 on
ECT's levels, whose gradients are largest). The network learns fast here, so that its outputs
matter: dropout moves the losses by 6e-4.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from conftest import SmokeResults, TrainingPiece

TOLERANCE = 1e-5
WEIGHTS = 1e-4
LIVELY: dict[str, Any] = {
    "network.mlp.width": 16,
    "optimizer.name": "adamw",
    "optimizer.learning_rate": 0.01,
}
DROPOUT = {**LIVELY, "network.dropout": 0.3}
LOSSES = ["loss", "consistency_loss", "diffusion_loss", "td_rms", "c", "gradient_norm"]


def losses(pieces: list[TrainingPiece]) -> np.ndarray:
    """Return the losses of each step, their parts, and what c is fitted to."""
    return pd.concat([piece.rows for piece in pieces])[LOSSES].to_numpy()


def assert_same_run(found: list[TrainingPiece], expected: list[TrainingPiece]) -> None:
    np.testing.assert_allclose(losses(found), losses(expected), rtol=TOLERANCE)
    tensors = found[-1].state.tensors
    assert tensors.keys() == expected[-1].state.tensors.keys()
    for name, tensor in expected[-1].state.tensors.items():
        if name.startswith(("network.", "average/")):
            torch.testing.assert_close(tensors[name], tensor, rtol=0, atol=WEIGHTS)
    names = [
        [(n, *f.tensors) for n, f in p[-1].checkpoints.items()]
        for p in (found, expected)
    ]
    assert names[0] == names[1]


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
