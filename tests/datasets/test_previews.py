"""What kedro-viz is given to show."""

import base64
import inspect
import io
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import torch
from describing import described
from kedro.io import Version
from making_runs import row
from matplotlib.figure import Figure
from PIL import Image

from lct_pipeline.datasets.atomic import AtomicDataset, ResultDataset
from lct_pipeline.datasets.autoencoder import AutoencoderDataset
from lct_pipeline.datasets.checkpoints import (
    CheckpointHeader,
    CheckpointIndexDataset,
    CheckpointsDataset,
)
from lct_pipeline.datasets.model_set import ModelSetDataset
from lct_pipeline.datasets.parts import GrowingTableDataset, ParquetPartsDataset
from lct_pipeline.datasets.previews import table
from lct_pipeline.datasets.results import EvaluationResult
from lct_pipeline.datasets.run_records import RunRecordsDataset
from lct_pipeline.datasets.shards import Shard, ShardsDataset, ShardStream
from lct_pipeline.datasets.tensors import TensorFile, TensorFileDataset
from lct_pipeline.models.autoencoder import PixelAutoencoder

ATOMIC = [
    ("t.parquet", None, "TablePreview"),
    ("r.json", None, "JSONPreview"),
    ("c.json", "plotly.JSONDataset", "PlotlyPreview"),
    ("g.png", None, "ImagePreview"),
]


def everything(folder: Path) -> list[tuple[Any, str]]:
    """Return datasets of which nothing is there, with the kinds of their previews."""
    path = str(folder / "nothing")
    checkpoints = {
        "type": "lct_pipeline.datasets.checkpoints.CheckpointsDataset",
        "path": path,
    }
    models = dict.fromkeys(("last", "best_ema", "combined"), checkpoints)
    return [
        *(
            (AtomicDataset(filepath=str(folder / name), dataset=dataset), kind)
            for name, dataset, kind in ATOMIC
        ),
        (TensorFileDataset(filepath=path), "JSONPreview"),
        (ModelSetDataset(filepath=f"{path}.json", **models), "JSONPreview"),
        (AutoencoderDataset(path=path), "JSONPreview"),
        (RunRecordsDataset(path=path), "JSONPreview"),
        (CheckpointsDataset(path=path), "TablePreview"),
        (
            CheckpointIndexDataset(filepath=f"{path}.parquet", checkpoints=checkpoints),
            "TablePreview",
        ),
        (ParquetPartsDataset(path=path, key="step"), "TablePreview"),
        (GrowingTableDataset(filepath=f"{path}.parquet"), "TablePreview"),
        (ResultDataset(filepath=f"{path}.json", result="evaluation"), "JSONPreview"),
        (ShardsDataset(path=path), "ImagePreview"),
    ]


def test_there_is_no_preview_of_what_is_not_there(tmp_path: Path) -> None:
    for dataset, _ in everything(tmp_path):
        assert dataset.preview() is None, dataset


def test_the_annotation_names_the_kind(tmp_path: Path) -> None:
    """kedro-viz chooses by it how a preview is drawn."""
    for dataset, kind in everything(tmp_path):
        found = inspect.signature(dataset.preview).return_annotation
        assert getattr(found, "__name__", found) == kind, dataset


def test_a_page_has_no_preview(tmp_path: Path) -> None:
    """Its styles would become those of kedro-viz."""
    assert not hasattr(AtomicDataset(filepath=str(tmp_path / "p.html")), "preview")


def test_json_shows_its_values(tmp_path: Path) -> None:
    dataset: Any = AtomicDataset(filepath=str(tmp_path / "r.json"))
    dataset.save({"fid": 2.5})
    assert json.loads(dataset.preview()) == {"fid": 2.5}


def test_a_result_shows_its_values(tmp_path: Path) -> None:
    result = EvaluationResult(rows=[row("last", 2.5)])
    dataset: Any = ResultDataset(filepath=str(tmp_path / "r.json"), result="evaluation")
    dataset.save(result)
    assert EvaluationResult.of(json.loads(dataset.preview())) == result


def test_a_chart_shows_its_traces(tmp_path: Path) -> None:
    path = str(tmp_path / "c.json")
    dataset: Any = AtomicDataset(filepath=path, dataset="plotly.JSONDataset")
    dataset.save(go.Figure(go.Scatter(x=[1, 2], y=[3, 5], name="±")))
    (trace,) = dataset.preview()["data"]
    assert (trace["type"], trace["name"]) == ("scatter", "±")


def test_a_picture_shows_itself(tmp_path: Path) -> None:
    dataset: Any = AtomicDataset(filepath=str(tmp_path / "g.png"))
    dataset.save(Figure(figsize=(1, 0.5), dpi=40))
    assert base64.b64decode(dataset.preview()) == (tmp_path / "g.png").read_bytes()


def test_the_newest_version_is_shown(tmp_path: Path) -> None:
    path = str(tmp_path / "r.json")
    for version in ("2026-01-01T00.00.00.000Z", "2026-01-02T00.00.00.000Z"):
        AtomicDataset(filepath=path, version=Version(None, version)).save(version)
    found: Any = AtomicDataset(filepath=path, version=Version(None, None))
    assert json.loads(found.preview()) == "2026-01-02T00.00.00.000Z"


def test_long_cells_of_a_table_are_cut() -> None:
    rows = pd.DataFrame(
        {
            "text": ["\x1b" + "a" * 100],
            "many": [list(range(99))],
            "few": [[1, 2]],
            "x": [0.5],
        }
    )
    found = table(rows)
    (text, many, few, x) = found["data"][0]
    assert text == r"\x1b" + "a" * 35 + "…"
    assert many.startswith("[0, 1, 2")
    assert len(many) == 40
    assert (few, x) == ([1, 2], 0.5)


def test_the_first_rows_of_a_table_and_the_last_of_a_growing_one(
    tmp_path: Path,
) -> None:
    rows = pd.DataFrame({"step": range(30)})
    whole: Any = AtomicDataset(filepath=str(tmp_path / "t.parquet"))
    whole.save(rows)
    assert whole.preview(nrows=2)["data"] == [[0], [1]]
    growing = ParquetPartsDataset(path=str(tmp_path / "parts"), key="step")
    growing.save(rows)
    assert growing.preview(nrows=2)["data"] == [[28], [29]]


def test_a_file_of_tensors_shows_its_header(tmp_path: Path) -> None:
    dataset = TensorFileDataset(filepath=str(tmp_path / "a.safetensors"))
    dataset.save(TensorFile({"mean": torch.zeros(2, 3)}, {"num_images": 5}))
    found = json.loads(dataset.preview())
    assert found["about"]["num_images"] == 5
    assert found["tensors"] == {"mean": "F32 [2, 3]"}


UNSHOWN = {"network", "source", "said", "trained_on", "digest"}  # or not there


def test_checkpoints_are_a_table(tmp_path: Path) -> None:
    dataset = CheckpointsDataset(path=str(tmp_path))
    headers = {
        "step-7-ema": CheckpointHeader(7, "ema", ema_rate=0.9, network=described()),
        "step-8-raw": CheckpointHeader(8, source={"file": "8.pt"}),
    }
    for name, header in headers.items():
        about = header.as_metadata()
        dataset.save({name: TensorFile({"w": torch.zeros(1)}, about)})
    found = dataset.preview()
    names = {field.name for field in fields(CheckpointHeader)}
    assert {*found["columns"]} == {"name", *names} - UNSHOWN
    rows = [dict(zip(found["columns"], row, strict=True)) for row in found["data"]]
    for values, (name, header) in zip(rows, headers.items(), strict=True):
        assert values.pop("name") == name
        assert values == {key: getattr(header, key) for key in values}


@pytest.mark.parametrize("channels", [3, 2, 4])
def test_shards_show_their_first_records(tmp_path: Path, channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(70, channels, 8, 8, generator=generator)
    if channels == 3:
        x = (x * 40 + 128).clamp(0, 255).to(torch.uint8)
    dataset = ShardsDataset(path=str(tmp_path))
    dataset.save(ShardStream("made", [Shard({"x": x})]))
    picture = Image.open(io.BytesIO(base64.b64decode(dataset.preview())))
    pixels = np.asarray(picture)
    side = 8 * 48 + 7 * 4  # 8 x 8 cells of at least 48 pixels, 4 apart
    assert pixels.shape == (side, side, 3)
    if channels == 3:
        assert (pixels[0, 0] == x[0, :, 0, 0].numpy()).all()
    else:
        assert pixels[:48, :48].std() > 20


def test_an_autoencoder_shows_its_configuration(tmp_path: Path) -> None:
    dataset = AutoencoderDataset(path=str(tmp_path / "a"))
    dataset.save(PixelAutoencoder())
    assert json.loads(dataset.preview()) == {"_class_name": "PixelAutoencoder"}
