"""What a checkpoint says about its model; models with classes and of two stages in a whole run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from conftest import DIFFUSION, SmokeResults, run_stages
from lct_pipeline.datasets.checkpoints import CheckpointStore
from lct_pipeline.errors import ParameterError
from lct_pipeline.models.denoiser import ModelDescription
from lct_pipeline.training.task import class_counts, describe_model

CONDITIONAL = {"network.conditional": True}
SHAPE = [2, 4, 4]


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
    found = describe_model(results.training(changes), SHAPE, {})
    assert {key: getattr(found, key) for key in expected} == expected
    assert found.sample_shape == tuple(SHAPE)
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
    counts = class_counts(rows, results.training(CONDITIONAL))
    assert list(counts.items()) == [("cat", 2), ("dog", 2)]
    found = describe_model(results.training(CONDITIONAL), SHAPE, counts)
    assert (found.num_classes, found.class_counts) == (2, counts)
    assert class_counts(rows, results.training({})) == {}


@pytest.mark.parametrize(
    "labels", [[None, None], ["dog", None, "cat"], ["dog", "dog"]], ids=str
)
def test_images_without_two_classes_are_refused_with_a_remedy(
    results: SmokeResults, labels: list[Any]
) -> None:
    with pytest.raises(ParameterError) as caught:
        class_counts(manifest(labels), results.training(CONDITIONAL))
    message = str(caught.value)
    assert message.startswith("training.network.conditional=true needs a label")
    assert "one folder per class" in message


@pytest.fixture
def prepared(smoke_run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a project folder in which the smoke recipe ran, to run others in."""
    monkeypatch.chdir(smoke_run_copy)
    return smoke_run_copy


def run(
    project: Path, run_id: str, *, evaluate: bool, **training: Any
) -> CheckpointStore:
    """Train a few steps through Kedro under a name of its own; return the checkpoints."""
    for pipeline in ("train", "evaluate") if evaluate else ("train",):
        run_stages(
            project, pipeline, run_id=run_id, training={"num_steps": 8, **training}
        )
    return CheckpointStore(project / "data" / "06_models" / run_id / "checkpoints")


def test_a_conditional_model_is_trained_and_evaluated(prepared: Path) -> None:
    store = run(prepared, "classes", evaluate=True, network={"conditional": True})
    assert store.network(store.names()[-1]).num_classes == 10
    path = prepared / "data" / "08_reporting" / "evaluation.json"
    rows = pd.DataFrame(json.loads(path.read_text())["rows"])
    trained = rows[rows["nfe"] > 0]
    assert set(trained["model"]) == {"last", "best_ema"}
    assert np.isfinite(rows["value"]).all()


def test_a_second_stage_finds_the_first_by_its_name(prepared: Path) -> None:
    store = run(
        prepared,
        "second",
        evaluate=False,
        objective={"kind": "truncated"},
        init_from={"run": "tested"},
    )
    assert store.network(store.names()[-1]).lowest_level == 1.0
