"""The whole pipeline through Kedro: what it leaves, doing nothing twice, and what stops it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from conftest import run_stages
from lct_pipeline.datasets.checkpoints import CheckpointStore
from lct_pipeline.datasets.results import CombinationResult

METRICS = {
    "classifier_frechet_distance",
    "classifier_frechet_distance_infinity",
    "classifier_kernel_distance",
    "classifier_score",
    "precision",
    "recall",
    "density",
    "coverage",
}


def _run_folder(project: Path) -> Path:
    return project / "data" / "06_models" / "tested"


def _digests(project: Path) -> dict[str, str]:
    headers = CheckpointStore(_run_folder(project) / "checkpoints").headers()
    return {name: header.digest for name, header in headers.items()}


def _alpha(project: Path) -> list[float]:
    return json.loads((_run_folder(project) / "combination.json").read_text())["alpha"]


def _history(project: Path) -> pd.DataFrame:
    return pd.read_parquet(_run_folder(project) / "search_history.parquet")


def test_evaluation_has_one_row_per_model_nfe_and_metric(smoke_run: Path) -> None:
    path = smoke_run / "data" / "08_reporting" / "evaluation.json"
    rows = pd.DataFrame(json.loads(path.read_text())["rows"])
    trained = rows[(rows["nfe"] > 0) & (rows["extractor"] == "classifier")]
    expected = {
        (model, nfe, metric)
        for model in ("last", "best_ema", "combined")
        for nfe in (1, 2)
        for metric in METRICS
    }
    found = list(trained[["model", "nfe", "metric"]].itertuples(index=False, name=None))
    assert set(found) == expected
    assert len(found) == len(expected)
    assert set(rows["reference"]) == {"the test split"}


def test_index_names_every_checkpoint_with_its_digest(smoke_run: Path) -> None:
    index = pd.read_parquet(_run_folder(smoke_run) / "checkpoint_index.parquet")
    assert dict(zip(index["name"], index["digest"], strict=True)) == _digests(smoke_run)
    assert set(index["kind"]) == {"raw", "ema", "power"}
    assert index["step"].is_monotonic_increasing


def test_the_combination_sums_to_one_and_is_the_model_where_validation_says_so(
    smoke_run: Path,
) -> None:
    said = json.loads((_run_folder(smoke_run) / "combination.json").read_text())
    combination = CombinationResult.of(said)
    assert sum(combination.alpha) == pytest.approx(1)
    assert len(combination.alpha) == len(combination.checkpoints) == 6
    ours, theirs = combination.scores, combination.baseline.scores
    assert ours.decision is not None and theirs.decision is not None
    is_better = sum(ours.decision) < sum(theirs.decision)
    check = combination.check_gain
    assert check is not None
    assert combination.is_selected == (is_better and check.outcome != "loss")
    selected = combination if combination.is_selected else combination.baseline
    assert combination.selected == selected.name


def test_search_history_holds_the_budget_of_each_search(smoke_run: Path) -> None:
    history = _history(smoke_run)
    spent = history.groupby(["method", "seed"])["spent"].max()
    assert set(spent.index.get_level_values(0)) == {
        "gradient",
        "evolution",
        "cma",
        "random",
    }
    assert (spent == 20).all()
    assert history["evaluation"].tolist() == list(range(len(history)))


def test_the_same_command_again_trains_and_searches_nothing(
    smoke_run_copy: Path,
    measured: list[Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    project = smoke_run_copy
    digests, alpha = _digests(project), _alpha(project)
    with caplog.at_level("INFO", logger="lct_pipeline"):
        run_stages(project, run_id="tested")
    assert _digests(project) == digests
    assert _alpha(project) == alpha
    for message in ("already ingested", "are already there", "steps are already done"):
        assert message in caplog.text
    assert [request.purpose for request in measured] == ["choice"] * (
        3 + 9
    )  # the landscape alone


def test_a_source_that_is_mostly_broken_stops_before_anything_is_left(
    project: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(5):
        (photos / f"{number}.jpg").write_text("this is not a picture")
    with pytest.raises(Exception, match="cannot be used"):
        run_stages(project, "train", ingestion={"source": str(photos)})
    assert not list((project / "data").rglob("*.safetensors"))
    assert not list((project / "data").rglob("*.parquet"))
