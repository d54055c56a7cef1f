"""Training that was stopped and goes on ends as training in one go, bit for bit."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from conftest import DIFFUSION, SmokeResults, TrainingPiece, copied
from lct_pipeline.datasets.checkpoints import CheckpointStore
from lct_pipeline.datasets.tensors import TensorFile, TensorFileDataset

CASES: dict[str, dict[str, Any]] = {
    "consistency, index": {},
    "consistency, continuous": {
        "noise.schedule": "continuous",
        "noise.continuous.num_stages": 3,
    },
    "consistency, c fitted": {"objective.c_schedule": "fitted"},
    "diffusion": DIFFUSION,
    "distillation": {"objective.kind": "distillation", "init_from.run": "teacher"},
    "truncated": {"objective.kind": "truncated", "init_from.run": "tested"},
    "truncated, continuous": {
        "objective.kind": "truncated",
        "init_from.run": "tested",
        "noise.schedule": "continuous",
        "noise.continuous.num_stages": 3,
    },
    "from a first stage": {"init_from.run": "tested"},
    "conditional": {"network.conditional": True},
    "dropout": {"network.dropout": 0.3},
    "fixed posterior": {"resample_posterior": False},
    "bfloat16": {"precision": "bfloat16"},
    "adamw, warm-up, clipped": {
        "optimizer.name": "adamw",
        "optimizer.warmup_steps": 8,
        "optimizer.clip_norm": 0.1,
    },
}


CLOCKS = ["images_per_second", "coupling_seconds", "wait_seconds"]


@pytest.fixture
def init_from(
    request: pytest.FixtureRequest, results: SmokeResults, teacher: CheckpointStore
) -> CheckpointStore | None:
    """Return the checkpoints of the run that a case names."""
    run = CASES[request.param].get("init_from.run")
    stores = {
        None: None,
        "teacher": teacher,
        "tested": results.catalog.load("checkpoints"),
    }
    return stores[run]


def stopped_at(pieces: Generator[TrainingPiece], step: int) -> TrainingPiece:
    """Train up to a checkpoint and close the training."""
    piece = next(p for p in pieces if p.step == step)
    pieces.close()
    return piece


def assert_equal(found: TensorFile, expected: TensorFile) -> None:
    assert found.metadata == expected.metadata
    assert found.tensors.keys() == expected.tensors.keys()
    for name, tensor in expected.tensors.items():
        assert torch.equal(found.tensors[name], tensor), name


def assert_ends_equal(found: list[TrainingPiece], whole: list[TrainingPiece]) -> None:
    """Compare pieces of a continued run with the last ones of a run in one go."""
    for piece, expected in zip(found, whole[-len(found) :], strict=True):
        assert_equal(piece.state, expected.state)
        assert piece.checkpoints.keys() == expected.checkpoints.keys()
        for name, checkpoint in expected.checkpoints.items():
            assert_equal(piece.checkpoints[name], checkpoint)
        rows, expected_rows = (p.rows.drop(columns=CLOCKS) for p in (piece, expected))
        pd.testing.assert_frame_equal(rows, expected_rows, check_exact=True)


@pytest.mark.parametrize(
    ("name", "init_from"), [(name, name) for name in CASES], indirect=["init_from"]
)
def test_stopped_and_continued_it_ends_bit_for_bit_the_same(
    results: SmokeResults, init_from: CheckpointStore | None, name: str
) -> None:
    def train(state: TensorFile | None = None) -> Generator[TrainingPiece]:
        return results.train(CASES[name], state, init_from=init_from)

    whole = list(train())
    stopped = stopped_at(train(), step=5)
    assert_ends_equal(list(train(stopped.state)), whole)


@pytest.mark.parametrize("step", [4, 10])
def test_it_goes_on_from_the_file_of_any_state_which_it_leaves_as_it_was(
    results: SmokeResults, tmp_path: Path, step: int
) -> None:
    fitted = {"objective.c_schedule": "fitted"}
    dataset = TensorFileDataset(filepath=str(tmp_path / "state.safetensors"))
    dataset.save(stopped_at(results.train(fitted), step).state)
    state = dataset.load()
    before = copied(state)
    assert_ends_equal(list(results.train(fitted, state)), list(results.train(fitted)))
    assert_equal(state, before)
