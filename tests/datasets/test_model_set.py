"""The models that are compared: their plans, and where their weights come from."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from describing import described
from kedro.io import DatasetError

from lct_pipeline.core.samplers import SamplingPlan
from lct_pipeline.datasets.checkpoints import CheckpointIndexDataset, CheckpointsDataset
from lct_pipeline.datasets.model_set import ModelSet, ModelSetDataset
from lct_pipeline.datasets.tensors import TensorFile, TensorFileDataset
from lct_pipeline.errors import DataError, user_error_in

ONE = {"num_evaluations": 1, "sigmas": [80.0]}
PLANS: dict[str, Any] = {
    "plans": {
        "last": [ONE],
        "best_ema": [ONE],
        "combined": [ONE, {"num_evaluations": 2, "sigmas": [80.0, 0.5]}],
    },
    "two_step_improves": {"last": None, "best_ema": False, "combined": True},
}
TYPES = "lct_pipeline.datasets"


def weights(value: float, **about: Any) -> TensorFile:
    network = {"network": described().as_json()}
    return TensorFile({"x": torch.tensor([value])}, {**network, **about})


@pytest.fixture
def dataset(tmp_path: Path) -> ModelSetDataset:
    """Save checkpoints and models of a run; return what compares them."""
    checkpoints = {
        "type": f"{TYPES}.checkpoints.CheckpointsDataset",
        "path": str(tmp_path / "checkpoints"),
    }
    store = CheckpointsDataset(path=checkpoints["path"])
    for step, kind in [(10, "raw"), (20, "raw"), (30, "ema")]:
        store.save({f"step-{step}-{kind}": weights(step, step=step, kind=kind)})
    rows = [
        {"name": n, "step": h.step, "kind": h.kind, "digest": h.digest}
        for n, h in reversed(store.load().headers().items())
    ]
    index = str(tmp_path / "index.parquet")
    CheckpointIndexDataset(filepath=index, checkpoints=checkpoints).save(
        pd.DataFrame(rows)
    )
    configs: dict[str, Any] = {
        "last": {
            "type": f"{TYPES}.checkpoints.CheckpointIndexDataset",
            "filepath": index,
            "checkpoints": checkpoints,
        }
    }
    for value, name in enumerate(("best_ema", "combined")):
        file = {"filepath": str(tmp_path / f"{name}.safetensors"), "optional": True}
        configs[name] = {"type": f"{TYPES}.tensors.TensorFileDataset", **file}
        TensorFileDataset(**file).save(weights(value))
    return ModelSetDataset(filepath=str(tmp_path / "plans.json"), **configs)


@pytest.fixture
def models(dataset: ModelSetDataset) -> ModelSet:
    dataset.save(PLANS)
    found = dataset.load()
    assert found is not None
    return found


def test_plans_come_back_as_saved(models: ModelSet, dataset: ModelSetDataset) -> None:
    assert models.names == ["last", "best_ema", "combined"]
    one, two = SamplingPlan(1, (80.0,)), SamplingPlan(2, (80.0, 0.5))
    assert models.plans == {"last": [one], "best_ema": [one], "combined": [one, two]}
    assert models.improves == PLANS["two_step_improves"]
    assert models.network == described()
    assert json.loads(dataset.preview()) == PLANS
    dataset.save({"plans": {"last": []}})  # of a diffusion model
    found = dataset.load()
    assert found is not None and found.improves == {}


def test_weights_are_read_from_where_each_model_is_when_they_are_asked_for(
    models: ModelSet, tmp_path: Path
) -> None:
    def found() -> dict[str, float]:
        return {name: models.file(name).tensors["x"].item() for name in models.names}

    expected = {"last": 20, "best_ema": 0, "combined": 1}  # the last raw checkpoint
    assert found() == expected
    combined = tmp_path / "combined.safetensors"
    TensorFileDataset(filepath=str(combined)).save(weights(9))
    assert found() == {**expected, "combined": 9}
    combined.unlink()
    message = "the combined model is gone: `kedro run --pipeline=evaluate`"
    with pytest.raises(DataError, match=message):
        models.file("combined")
    checkpoints = CheckpointsDataset(path=str(tmp_path / "checkpoints"))
    checkpoints.save({"step-20-raw": weights(5, step=20, kind="raw")})
    with pytest.raises(DataError, match="is not the checkpoint that was cataloged"):
        models.file("last")


def test_what_was_not_selected_is_named_with_the_command(
    dataset: ModelSetDataset,
) -> None:
    assert not dataset.exists()
    with pytest.raises(DatasetError) as caught:
        dataset.load()
    message = str(user_error_in(caught.value))
    assert "plans.json is not there" in message and "--pipeline=evaluate" in message
    dataset._optional = True
    assert dataset.load() is None
