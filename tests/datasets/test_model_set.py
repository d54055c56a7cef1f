"""The models that are compared: their plans, and where their weights come from."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from describing import described
from kedro.io import DatasetError

from lct_pipeline.datasets.checkpoints import CheckpointIndexDataset, CheckpointsDataset
from lct_pipeline.datasets.model_set import ModelSet, ModelSetDataset
from lct_pipeline.datasets.tensors import TensorFile, TensorFileDataset
from lct_pipeline.errors import DataError, user_error_in

PLANS: dict[str, Any] = {
    "plans": {
        "last": [{"num_evaluations": 1}],
        "best_ema": [{"num_evaluations": 1}],
        "combined": [{"num_evaluations": 1}, {"num_evaluations": 2}],
    },
    "two_step_improves": {"last": None, "best_ema": False, "combined": True},
}
TYPES = "lct_pipeline.datasets"


def weights(value: float, **about: Any) -> TensorFile:
    return TensorFile(
        {"x": torch.tensor([value])}, {"network": described().as_json(), **about}
    )


def saved_run(folder: Path) -> dict[str, Any]:
    """Save checkpoints and models of a run; return the configuration of their datasets."""
    path, filepath = str(folder / "checkpoints"), str(folder / "index.parquet")
    checkpoints = {"type": f"{TYPES}.checkpoints.CheckpointsDataset", "path": path}
    dataset = CheckpointsDataset(path=path)
    tracks = [(10, "raw"), (20, "raw"), (30, "ema")]
    files = {f"step-{s}-{k}": weights(s, step=s, kind=k) for s, k in tracks}
    dataset.save(files)
    headers = dataset.load().headers()
    rows = [
        {"name": n, "step": h.step, "kind": h.kind, "digest": h.digest}
        for n, h in sorted(headers.items(), reverse=True)
    ]
    index = CheckpointIndexDataset(filepath=filepath, checkpoints=checkpoints)
    index.save(pd.DataFrame(rows))
    configs: dict[str, Any] = {
        "last": {
            "type": f"{TYPES}.checkpoints.CheckpointIndexDataset",
            "filepath": filepath,
            "checkpoints": checkpoints,
        }
    }
    for value, name in enumerate(("best_ema", "combined")):
        filepath = str(folder / f"{name}.safetensors")
        TensorFileDataset(filepath=filepath).save(weights(value))
        configs[name] = {
            "type": f"{TYPES}.tensors.TensorFileDataset",
            "filepath": filepath,
            "optional": True,
        }
    return {"filepath": str(folder / "plans.json"), **configs}


@pytest.fixture
def values(tmp_path: Path) -> dict[str, Any]:
    return saved_run(tmp_path)


@pytest.fixture
def models(values: dict[str, Any]) -> ModelSet:
    dataset = ModelSetDataset(**values)
    dataset.save(PLANS)
    found = dataset.load()
    assert found is not None
    return found


def test_plans_come_back_as_saved(models: ModelSet) -> None:
    assert models.names == ["last", "best_ema", "combined"]
    assert models.plans == PLANS["plans"]
    assert models.improves == PLANS["two_step_improves"]
    assert models.network == described()


def test_weights_are_read_from_where_each_model_is(models: ModelSet) -> None:
    found = {name: models.file(name).tensors["x"].item() for name in models.names}
    assert found == {
        "last": 20,
        "best_ema": 0,
        "combined": 1,
    }  # the last raw checkpoint


def test_weights_are_read_when_they_are_asked_for(
    models: ModelSet, values: dict[str, Any]
) -> None:
    TensorFileDataset(filepath=values["combined"]["filepath"]).save(weights(9))
    assert models.file("combined").tensors["x"].item() == 9


def test_a_checkpoint_that_was_replaced_is_refused(
    models: ModelSet, tmp_path: Path
) -> None:
    dataset = CheckpointsDataset(path=str(tmp_path / "checkpoints"))
    dataset.save({"step-20-raw": weights(5, step=20, kind="raw")})
    with pytest.raises(DataError, match="is not the checkpoint that was cataloged"):
        models.file("last")


def test_a_model_that_is_gone_is_named(
    models: ModelSet, values: dict[str, Any]
) -> None:
    Path(values["combined"]["filepath"]).unlink()
    message = "the combined model is gone: `kedro run --pipeline=evaluate`"
    with pytest.raises(DataError, match=message):
        models.file("combined")
    models.file("best_ema")


def test_a_diffusion_model_has_no_second_step(values: dict[str, Any]) -> None:
    dataset = ModelSetDataset(**values)
    dataset.save({"plans": {"last": [], "best_ema": []}})
    found = dataset.load()
    assert found is not None
    assert (found.names, found.improves) == (["last", "best_ema"], {})


def test_what_was_not_selected_is_none_where_it_may_be_missing(
    values: dict[str, Any],
) -> None:
    assert ModelSetDataset(**values, optional=True).load() is None
    dataset = ModelSetDataset(**values)
    assert not dataset.exists()
    with pytest.raises(DatasetError) as caught:
        dataset.load()
    assert "plans.json is not there" in str(user_error_in(caught.value))


def test_the_digest_is_that_of_the_plans(values: dict[str, Any]) -> None:
    dataset = ModelSetDataset(**values)
    dataset.save(PLANS)
    text = json.dumps(PLANS).encode()
    assert dataset.content_digest() == hashlib.sha256(text).hexdigest()
    assert json.loads(dataset.preview()) == PLANS


def test_a_failed_save_leaves_the_old_plans(values: dict[str, Any]) -> None:
    dataset = ModelSetDataset(**values)
    dataset.save(PLANS)
    with pytest.raises(DatasetError):
        dataset.save({"plans": object()})
    assert json.loads(Path(values["filepath"]).read_text()) == PLANS
