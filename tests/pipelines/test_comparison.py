"""Two sets of files, compared by a run of the pipeline as a user starts it."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from stand_ins import TinyInception, clean_fid, write_inception

from conftest import run_stages
from lct_pipeline.datasets.results import EvaluationResult
from lct_pipeline.errors import user_error_in
from lct_pipeline.evaluation.comparing import batches_of_one_shape
from lct_pipeline.runs.reading import find_runs


def write_images(folder: Path, num: int, seed: int, scale: float = 1.0) -> Path:
    """Write PNGs of several sizes, not square."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    for index in range(num):
        size = [(40, 30), (25, 50)][index % 3 == 0]
        pixels = (scale * rng.integers(0, 256, size=(*size, 3))).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:03d}.png")
    return folder


@pytest.fixture
def sets(tmp_path: Path) -> tuple[Path, Path]:
    first = write_images(tmp_path / "a", 40, seed=1)
    return first, write_images(tmp_path / "b", 30, seed=2, scale=0.8)


@pytest.fixture
def inception(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return write_inception(tmp_path, monkeypatch, TinyInception(num_features=6))


@pytest.fixture(autouse=True)
def inside(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)


def compare(project: Path, inception: Path, **comparison: Any) -> pd.DataFrame:
    """Compare, with paths by the names of their parameters; return the rows."""
    extractor = {"kind": "inception", "path": str(inception)}
    texts = {k: str(v) if isinstance(v, Path) else v for k, v in comparison.items()}
    features = {"extractor": extractor, "batch_size": 8}
    run_stages(project, "compare", features=features, comparison=texts)
    text = (project / "data/08_reporting/comparisons/comparison.json").read_text()
    rows = EvaluationResult.of(json.loads(text)).rows
    return pd.DataFrame([row.model_dump() for row in rows])


def test_the_fid_of_two_folders_is_that_of_clean_fid(
    project: Path,
    sets: tuple[Path, Path],
    inception: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = compare(project, inception, generated=sets[0], reference=sets[1])
    values = rows.set_index("metric")["value"]
    expected = clean_fid(sets, inception, monkeypatch)
    assert expected > 1e-4
    assert values["fid"] == pytest.approx(expected, rel=1e-4)
    assert {"kid", "precision", "recall", "density", "coverage"} <= set(values.index)
    first = rows.iloc[0]
    assert (first["num_generated"], first["num_real"]) == (40, 30)
    assert first["reference"] == str(sets[1])
    assert first["quantisation"] == "as given"
    assert first["file_format"] == "as given, upright, over white, 16 bits to 8"


def test_an_archive_compares_like_its_folder_and_with_itself_not_at_all(
    project: Path, sets: tuple[Path, Path], inception: Path, tmp_path: Path
) -> None:
    packed = tmp_path / "a.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted(sets[0].iterdir()):
            archive.write(path, path.name)
    rows = compare(project, inception, generated=packed, reference=sets[0])
    values = rows.set_index("metric")["value"]
    assert values["fid"] == pytest.approx(0, abs=1e-6)
    assert values["precision"] == values["recall"] == values["coverage"] == 1


def test_comparisons_lie_side_by_side_and_are_no_runs(
    project: Path, sets: tuple[Path, Path], inception: Path
) -> None:
    compare(project, inception, generated=sets[0], reference=sets[1])
    folder = project / "data/08_reporting/comparisons"
    (first,) = folder.glob("a-*/comparison.json")
    before = first.read_bytes()
    compare(project, inception, generated=sets[1], reference=sets[0])
    (second,) = folder.glob("b-*/comparison.json")
    assert (first.read_bytes() == before) is (second.read_bytes() != before) is True
    assert len(list(first.parent.glob("records/*.json"))) == 1
    assert find_runs(project) == []


def test_third_party_statistics_are_compared_with(
    project: Path, sets: tuple[Path, Path], inception: Path, tmp_path: Path
) -> None:
    path = tmp_path / "theirs.npz"
    np.savez(path, mu=np.zeros(6), sigma=np.eye(6))
    theirs = {"path": str(path), "protocol": "theirs", "num_images": 99}
    rows = compare(project, inception, generated=sets[0], statistics=theirs)
    assert set(rows["metric"]) == {"fid", "inception_score"}
    assert set(rows["reference"]) == {"theirs.npz (theirs)"}
    assert set(rows["num_real"]) == {99}


def message(project: Path, **parameters: Any) -> str:
    with pytest.raises(Exception) as caught:
        run_stages(project, "compare", **parameters)
    return str(user_error_in(caught.value))


def test_a_file_that_cannot_be_read_stops_it_and_is_named(
    project: Path, sets: tuple[Path, Path], inception: Path
) -> None:
    (sets[1] / "007.png").write_bytes(b"not an image")
    found = message(
        project,
        features={"extractor": {"kind": "inception", "path": str(inception)}},
        comparison={"generated": str(sets[0]), "reference": str(sets[1])},
    )
    assert "007.png cannot be compared: not an image" in found
    assert not list((project / "data/08_reporting").rglob("comparison.json"))


def test_what_is_missing_is_asked_for(
    project: Path, sets: tuple[Path, Path], inception: Path
) -> None:
    extractor = {"extractor": {"kind": "inception", "path": str(inception)}}
    generated = {"generated": str(sets[0])}
    assert "give comparison.generated" in message(project, features=extractor)
    assert "and comparison.reference or" in message(
        project, features=extractor, comparison=generated
    )
    both = {**generated, "reference": str(sets[1])}
    assert "kind=classifier is trained" in message(project, comparison=both)


def test_batches_are_of_neighbours_of_one_shape_in_order() -> None:
    sizes = [4, 4, 4, 5, 5, 4]
    images = [np.full((3, size, 6), number) for number, size in enumerate(sizes)]
    batches = list(batches_of_one_shape(images, batch_size=2))
    assert [batch[:, 0, 0, 0].tolist() for batch in batches] == [
        [0, 1],
        [2],
        [3, 4],
        [5],
    ]
    assert list(batches_of_one_shape([], 2)) == []
