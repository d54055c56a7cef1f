"""The run that a training starts from, is taught by, or stands on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import SmokeResults
from lct_pipeline.datasets.checkpoints import CheckpointsDataset, CheckpointStore
from lct_pipeline.errors import ParameterError
from lct_pipeline.training.task import init_weights

START: dict[str, Any] = {"init_from.run": "tested"}


@pytest.fixture
def finished(results: SmokeResults) -> CheckpointStore:
    """Return the checkpoints of the smoke recipe, a consistency model of 60 steps."""
    return results.catalog.load("checkpoints")


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


@pytest.mark.parametrize(
    ("kind", "run", "needed", "given"),
    [
        ("distillation", "tested", "diffusion", "consistency"),
        ("truncated", "teacher", "consistency", "diffusion"),
    ],
)
def test_a_model_of_the_other_kind_is_refused(
    results: SmokeResults,
    finished: CheckpointStore,
    teacher: CheckpointStore,
    kind: str,
    run: str,
    needed: str,
    given: str,
) -> None:
    changes = {"init_from.run": run, "objective.kind": kind}
    store = {"tested": finished, "teacher": teacher}[run]
    with pytest.raises(
        ParameterError, match=f"needs a {needed} model.* and {run} is a {given} model"
    ):
        next(results.train(changes, init_from=store))


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
