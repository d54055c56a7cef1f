"""What is trained: the model that a checkpoint describes, and the run that training starts from."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from conftest import DIFFUSION, SmokeResults, run_stages
from lct_pipeline.datasets.checkpoints import CheckpointsDataset, CheckpointStore
from lct_pipeline.errors import ParameterError
from lct_pipeline.models.denoiser import ModelDescription
from lct_pipeline.training.task import class_counts, describe_model, init_checkpoint

CONDITIONAL = {"network.conditional": True}


def manifest(labels: list[Any], **columns: list[Any]) -> pd.DataFrame:
    num = len(labels)
    rows = {"label": labels, "split": ["train"] * num, "index": range(num)}
    return pd.DataFrame({**rows, **columns})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"model": "consistency", "boundary": 0.002, "lowest_level": 0.0}),
        (DIFFUSION, {"model": "diffusion", "boundary": 0.0, "lowest_level": 0.0}),
        (
            {"noise.schedule": "continuous"},
            {"model": "consistency", "boundary": 0.0, "lowest_level": 0.0},
        ),
        (
            {
                "objective.kind": "truncated",
                "init_from.run": "first",
                "objective.truncation.level": 0.7,
            },
            {"model": "consistency", "boundary": 0.002, "lowest_level": 0.7},
        ),
        (
            {"objective.kind": "distillation", "init_from.run": "teacher"},
            {"model": "consistency", "boundary": 0.002, "lowest_level": 0.0},
        ),
    ],
    ids=str,
)
def test_a_description_says_which_model_it_is_and_where_it_is_the_identity(
    results: SmokeResults, changes: dict[str, Any], expected: dict[str, Any]
) -> None:
    found = describe_model(results.training(changes), [2, 4, 4], {})
    assert {key: getattr(found, key) for key in expected} == expected
    assert found.sample_shape == (2, 4, 4)
    assert found.network == {"width": 32, "num_blocks": 1}
    assert (found.num_classes, found.class_counts) == (0, {})
    assert ModelDescription.from_json(found.as_json()) == found


def test_classes_are_counted_in_the_training_split_in_the_order_of_their_names(
    results: SmokeResults,
) -> None:
    rows = manifest(
        ["dog", "cat", "dog", "eel", "cat", "dog"],
        split=["train", "train", "train", "test", "train", "train"],
        index=[0, 1, 2, 3, 4, np.nan],  # the last could not be decoded
    )
    counts = class_counts(rows, results.training(CONDITIONAL).network)
    assert list(counts.items()) == [("cat", 2), ("dog", 2)]
    found = describe_model(results.training(CONDITIONAL), [2, 4, 4], counts)
    assert (found.num_classes, found.class_counts) == (2, counts)
    assert class_counts(rows, results.training({}).network) == {}


@pytest.mark.parametrize(
    "labels", [[None, None], ["dog", None, "cat"], ["dog", "dog"]], ids=str
)
def test_images_without_two_classes_are_refused_with_a_remedy(
    results: SmokeResults, labels: list[Any]
) -> None:
    with pytest.raises(ParameterError) as caught:
        class_counts(manifest(labels), results.training(CONDITIONAL).network)
    message = str(caught.value)
    assert message.startswith("training.network.conditional=true needs a label")
    assert "one folder per class" in message


@pytest.fixture
def prepared(smoke_run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a project folder in which the smoke recipe ran, to run others in."""
    monkeypatch.chdir(smoke_run_copy)
    return smoke_run_copy


def checkpoints(project: Path, run_id: str, **training: Any) -> CheckpointStore:
    """Train a few steps through Kedro under a name of its own; return the checkpoints."""
    run_stages(project, "train", run_id=run_id, training={"num_steps": 8, **training})
    return CheckpointStore(project / "data" / "06_models" / run_id / "checkpoints")


def test_a_conditional_model_is_trained_and_evaluated(prepared: Path) -> None:
    conditional = {"network": {"conditional": True}}
    store = checkpoints(prepared, "classes", **conditional)
    training = {"num_steps": 8, **conditional}
    evaluation = {"num_images": 24, "num_seeds": 1, "num_selection_images": 16}
    values = {"training": training, "evaluation": evaluation}
    run_stages(prepared, "evaluate", run_id="classes", **values)
    assert store.network(store.names()[-1]).num_classes == 10
    path = prepared / "data" / "08_reporting" / "evaluation.json"
    rows = pd.DataFrame(json.loads(path.read_text())["rows"])
    trained = rows[rows["nfe"] > 0]
    assert set(trained["model"]) == {"last", "best_ema"}
    assert np.isfinite(rows["value"]).all()


def test_a_second_stage_finds_the_first_by_its_name(prepared: Path) -> None:
    changes = {"objective": {"kind": "truncated"}, "init_from": {"run": "tested"}}
    store = checkpoints(prepared, "second", **changes)
    assert store.network(store.names()[-1]).lowest_level == 1.0


START: dict[str, Any] = {"init_from.run": "tested"}


@pytest.fixture
def finished(results: SmokeResults) -> CheckpointStore:
    """Return the checkpoints of the smoke recipe, a consistency model of 60 steps."""
    return results.catalog.load("checkpoints")


def test_where_no_rate_was_kept_the_last_weights_are_taken(
    results: SmokeResults, tmp_path: Path
) -> None:
    dataset = CheckpointsDataset(path=str(tmp_path / "run" / "checkpoints"))
    for piece in results.train({"ema.rates": []}):
        dataset.save(piece.checkpoints)
    chosen = init_checkpoint(dataset.load(), results.training(START))
    assert chosen == "step-0000012-raw"


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
    # a truncated stage goes on by the paper's law; else the first has iCT's constant
    law, constant = math.exp(-1.15 * math.log(4) - 0.85), 0.00054 * math.sqrt(32)
    expected_c = law if kind == "truncated" else constant
    assert piece.rows["c"].item() == pytest.approx(expected_c)
    raw = piece.checkpoints["step-0000001-raw"].tensors
    assert all(torch.equal(raw[key], tensor) for key, tensor in expected.items())


OTHER_NETWORK = "tested has another network: {} is"
OTHER_KIND = "needs a {} model.* and {} is a {} model"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network.mlp.width": 64}, OTHER_NETWORK.format("mlp")),
        ({"network.mlp.num_blocks": 2}, OTHER_NETWORK.format("mlp")),
        ({"network.norm": "layer_norm"}, OTHER_NETWORK.format("norm")),
        ({"network.conditional": True}, OTHER_NETWORK.format("num_classes")),
        ({"network.kind": "dit"}, OTHER_NETWORK.format("kind")),
        (
            {"objective.kind": "distillation"},
            OTHER_KIND.format("diffusion", "tested", "consistency"),
        ),
        (
            {"objective.kind": "truncated", "init_from.run": "teacher"},
            OTHER_KIND.format("consistency", "teacher", "diffusion"),
        ),
        (
            {"init_from.run": "gone"},
            r"^training.init_from.run=gone: there are no checkpoints in .*gone",
        ),
        (
            {"init_from.checkpoint": "step-0000061-raw"},
            "^training.init_from.checkpoint=step-0000061-raw: not in .* step-0000060-ema-0.9, "
            "step-0000060-ema-0.95, step-0000060-power-0.1, step-0000060-raw",
        ),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_with_what_differs(
    results: SmokeResults,
    finished: CheckpointStore,
    teacher: CheckpointStore,
    tmp_path: Path,
    changes: dict[str, Any],
    message: str,
) -> None:
    gone = CheckpointStore(tmp_path / "gone" / "checkpoints")
    stores = {"tested": finished, "teacher": teacher, "gone": gone}
    changes = START | changes
    with pytest.raises(ParameterError, match=message):
        next(results.train(changes, init_from=stores[changes["init_from.run"]]))
