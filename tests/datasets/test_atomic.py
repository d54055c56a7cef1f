"""Datasets of kedro-datasets that are saved whole or not at all, as a catalog makes them."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest
from kedro.io import DataCatalog, DatasetError
from matplotlib.figure import Figure
from PIL import Image

from lct_pipeline.datasets.atomic import AtomicDataset
from lct_pipeline.errors import user_error_in

MODULE = "lct_pipeline.datasets.atomic"
CHART = go.Figure(go.Scatter(x=[1, 2], y=[3, 5], name="loss"))
TABLE = pd.DataFrame({"model": ["a", "b"], "distance": [1.5, 2.5]})


def catalog(path: Path, version: str = "v1", **options: Any) -> DataCatalog:
    config = {"type": f"{MODULE}.AtomicDataset", "filepath": str(path), **options}
    return DataCatalog.from_config({"data": config}, save_version=version)


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize(
    ("name", "options", "value"),
    [
        ("t.parquet", {}, TABLE),
        ("t.csv", {"dataset": "pandas.CSVDataset"}, TABLE),
        ("r.json", {}, {"a": [1, None, "é"]}),
        ("p.html", {}, "<p>5.2 ± 0.4</p>"),
        ("f.json", {"dataset": "plotly.JSONDataset"}, CHART),
    ],
)
def test_what_is_saved_comes_back_and_is_replaced(
    tmp_path: Path, name: str, options: dict[str, Any], value: Any
) -> None:
    data = catalog(tmp_path / "deep" / name, **options)
    assert not data.exists("data")
    for _ in range(2):
        data.save("data", value)
        found = data.load("data")
        if isinstance(value, pd.DataFrame):
            pd.testing.assert_frame_equal(found, value)
        else:
            assert found == value
    assert data.exists("data")
    assert files(tmp_path) == [name]


def test_a_matplotlib_figure_is_saved_as_an_image_and_loads_as_its_bytes(
    tmp_path: Path,
) -> None:
    data = catalog(tmp_path / "grid.png")
    data.save("data", Figure(figsize=(1, 0.5), dpi=40))
    content = (tmp_path / "grid.png").read_bytes()
    assert data["data"].content_digest() == hashlib.sha256(content).hexdigest()
    assert data.load("data") == content
    with Image.open(tmp_path / "grid.png") as image:
        assert image.format == "PNG"
        assert image.width > image.height


def test_the_newest_version_is_loaded_and_none_is_saved_twice(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    versions = ("2026-01-01T00.00.00.000Z", "2026-01-02T00.00.00.000Z")
    for version in versions:
        catalog(path, version, versioned=True).save("data", version)
        assert json.loads((path / version / "r.json").read_text()) == version
    with pytest.raises(DatasetError, match=versions[0]):
        catalog(path, versions[0], versioned=True).save("data", "again")
    assert catalog(path, versioned=True).load("data") == versions[1]


def test_a_failed_save_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    data = catalog(tmp_path / "r.json")
    with pytest.raises(DatasetError):
        data.save("data", object())
    assert not data.exists("data")
    assert files(tmp_path) == []
    data.save("data", {"a": 1})
    with pytest.raises(DatasetError):
        data.save("data", {"a": 2, "b": object()})
    assert data.load("data") == {"a": 1}
    assert files(tmp_path) == ["r.json"]


def test_a_missing_file_says_which_and_what_writes_it(tmp_path: Path) -> None:
    dataset = AtomicDataset(filepath=str(tmp_path / "a.json"), written_by="evaluate")
    with pytest.raises(DatasetError) as caught:
        dataset.load()
    fault = user_error_in(caught.value)
    assert str(tmp_path / "a.json") in str(fault)
    assert "kedro run --pipeline=evaluate" in str(fault)


def test_two_runs_keep_theirs_and_the_last_one_is_above(tmp_path: Path) -> None:
    for run in ("first", "second"):
        catalog(tmp_path / run / "r.json", latest=True).save("data", run)
    found = {p.parent.name: json.loads(p.read_text()) for p in tmp_path.rglob("r.json")}
    assert found == {"first": "first", "second": "second", tmp_path.name: "second"}


def test_a_save_whose_copy_above_fails_is_none(tmp_path: Path) -> None:
    """The file means that all is done: whatever goes on from it finds the copy too."""
    (tmp_path / "r.json").mkdir()
    data = catalog(tmp_path / "run" / "r.json", latest=True)
    with pytest.raises(DatasetError):
        data.save("data", {"a": 1})
    assert not data.exists("data")
    assert files(tmp_path) == []


@pytest.mark.parametrize("versioned", [True, False])
def test_an_optional_file_that_is_missing_is_none(
    tmp_path: Path, versioned: bool
) -> None:
    data = catalog(tmp_path / "t.parquet", optional=True, versioned=versioned)
    assert data.load("data") is None


def test_a_page_is_in_utf_8_whatever_the_locale_and_listing_imports_no_figure_library(
    tmp_path: Path,
) -> None:
    code = f"""
import sys
from {MODULE} import AtomicDataset
AtomicDataset(filepath="a.png").exists()
AtomicDataset(filepath="a.json", dataset="plotly.JSONDataset").exists()
print(*sys.modules)
dataset = AtomicDataset(filepath={str(tmp_path / "page.html")!r})
dataset.save("5.2 \\u00b1 0.4")
print(dataset.load() == "5.2 \\u00b1 0.4")
"""
    ascii_alone = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | ascii_alone,
        capture_output=True,
        text=True,
        check=True,
    )
    modules, is_same = done.stdout.splitlines()
    assert not {"matplotlib", "plotly"} & set(modules.split())
    assert is_same == "True"
    assert (tmp_path / "page.html").read_bytes() == "5.2 ± 0.4".encode()
