"""The run that a training starts from, is taught by, or stands on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import SmokeResults
from lct_pipeline.datasets.checkpoints import CheckpointsDataset, CheckpointStore
from lct_pipeline.errors import ParameterError
from lct_pipeline.training.init_from import init_weights

START: dict[str, Any] = {"init_from.run": "tested"}


@pytest.fixture
def finished(results: SmokeResults) -> CheckpointStore:
    """Return the checkpoints of the smoke recipe, a consistency model of 60 steps."""
    return results.catalog.load("checkpoints")


def test_none_is_asked_for(results: SmokeResults, finished: CheckpointStore) -> None:
    assert init_weights(finished, results.training({})) is None


def test_a_run_that_is_not_there_is_named_with_its_folder(
    results: SmokeResults, tmp_path: Path
) -> None:
    gone = CheckpointStore(tmp_path / "gone" / "checkpoints")
    with pytest.raises(ParameterError) as caught:
        next(results.train({"init_from.run": "gone"}, init_from=gone))
    message = str(caught.value)
    assert message.startswith("training.init_from.run=gone: there are no checkpoints")
    assert str(gone.folder) in message


def test_a_checkpoint_that_is_not_there_is_named_with_the_last_ones(
    results: SmokeResults, finished: CheckpointStore
) -> None:
    changes = {**START, "init_from.checkpoint": "step-0000061-raw"}
    with pytest.raises(ParameterError) as caught:
        next(results.train(changes, init_from=finished))
    message = str(caught.value)
    assert message.startswith("training.init_from.checkpoint=step-0000061-raw: not in")
    for name in ("ema-0.9", "ema-0.95", "power-0.1", "raw"):
        assert f"step-0000060-{name}" in message


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"network.mlp.width": 64}, "mlp"),
        ({"network.mlp.num_blocks": 2}, "mlp"),
        ({"network.norm": "layer_norm"}, "norm"),
        ({"network.conditional": True}, "num_classes"),
        ({"network.kind": "dit"}, "kind"),
    ],
    ids=str,
)
def test_another_network_is_refused_with_what_differs(
    results: SmokeResults,
    finished: CheckpointStore,
    changes: dict[str, Any],
    key: str,
) -> None:
    with pytest.raises(ParameterError, match=rf"tested has another network: {key} is "):
        next(results.train({**START, **changes}, init_from=finished))


def test_another_dropout_is_no_other_network(
    results: SmokeResults, finished: CheckpointStore
) -> None:
    next(results.train({**START, "network.dropout": 0.2}, init_from=finished))


def test_a_teacher_is_a_diffusion_model(
    results: SmokeResults, finished: CheckpointStore
) -> None:
    changes = {**START, "objective.kind": "distillation"}
    expected = "needs a diffusion model.* and tested is a consistency model"
    with pytest.raises(ParameterError, match=expected):
        next(results.train(changes, init_from=finished))


def test_a_truncated_model_stands_on_a_consistency_model(
    results: SmokeResults, teacher: CheckpointStore
) -> None:
    changes = {"init_from.run": "teacher", "objective.kind": "truncated"}
    expected = "needs a consistency model.* and teacher is a diffusion model"
    with pytest.raises(ParameterError, match=expected):
        next(results.train(changes, init_from=teacher))


def test_the_longest_average_of_a_fixed_rate_at_the_last_step_is_taken(
    results: SmokeResults, finished: CheckpointStore
) -> None:
    chosen = init_weights(finished, results.training(START))
    assert chosen is not None
    assert (chosen.metadata["step"], chosen.metadata["ema_rate"]) == (60, 0.95)


def test_where_no_rate_was_kept_the_last_weights_are_taken(
    results: SmokeResults, tmp_path: Path
) -> None:
    dataset = CheckpointsDataset(path=str(tmp_path / "run" / "checkpoints"))
    for piece in results.train({"ema.rates": []}):
        dataset.save(piece.checkpoints)
    chosen = init_weights(dataset.load(), results.training(START))
    assert chosen is not None
    assert (chosen.metadata["step"], chosen.metadata["kind"]) == (12, "raw")


@pytest.mark.parametrize("name", [None, "step-0000020-raw", "step-0000060-power-0.1"])
@pytest.mark.parametrize("kind", ["consistency", "truncated"])
def test_training_starts_with_the_weights_of_the_chosen_checkpoint(
    results: SmokeResults, finished: CheckpointStore, name: str | None, kind: str
) -> None:
    changes = {
        **START,
        "init_from.checkpoint": name,
        "objective.kind": kind,
        "optimizer.learning_rate": 1e-30,  # the weights stay as they are
        "num_steps": 1,
    }
    (piece,) = results.train(changes, init_from=finished)
    expected = finished.read(name or "step-0000060-ema-0.95").tensors
    for checkpoint in piece.checkpoints.values():
        assert checkpoint.tensors.keys() == expected.keys()
        for key, tensor in expected.items():
            torch.testing.assert_close(checkpoint.tensors[key], tensor)
    raw = piece.checkpoints["step-0000001-raw"].tensors
    assert all(torch.equal(raw[key], tensor) for key, tensor in expected.items())


def test_a_student_starts_with_the_weights_of_its_teacher(
    results: SmokeResults, teacher: CheckpointStore
) -> None:
    changes = {
        "init_from.run": "teacher",
        "objective.kind": "distillation",
        "optimizer.learning_rate": 1e-30,
        "num_steps": 1,
    }
    (piece,) = results.train(changes, init_from=teacher)
    raw = piece.checkpoints["step-0000001-raw"]
    expected = teacher.read("step-0000012-ema-0.95").tensors
    assert all(
        torch.equal(raw.tensors[key], tensor) for key, tensor in expected.items()
    )
    assert raw.metadata["network"]["model"] == "consistency"


def test_what_training_starts_from_does_not_learn(
    results: SmokeResults, teacher: CheckpointStore
) -> None:
    name = "step-0000012-ema-0.95"
    before = {key: tensor.clone() for key, tensor in teacher.read(name).tensors.items()}
    changes = {
        "init_from.run": "teacher",
        "objective.kind": "distillation",
    }
    *_, piece = results.train(changes, init_from=teacher)
    after = teacher.read(name).tensors
    assert all(torch.equal(after[key], tensor) for key, tensor in before.items())
    weights = piece.checkpoints["step-0000012-raw"].tensors
    assert not torch.equal(weights["output.weight"], before["output.weight"])
