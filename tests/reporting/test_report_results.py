"""What a report is made of, from the folders of a run."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from made_results import combination
from report_results import (
    NETWORK,
    everything,
    ingestion,
    metrics,
    rows,
    statistics,
)

from lct_pipeline.datasets.atomic import AtomicDataset
from lct_pipeline.datasets.checkpoints import CheckpointsDataset
from lct_pipeline.datasets.growing_table import GrowingTableDataset
from lct_pipeline.datasets.parquet_parts import ParquetPartsDataset
from lct_pipeline.datasets.result_file import ResultDataset
from lct_pipeline.datasets.results import EvaluationResult
from lct_pipeline.datasets.run_folder import RunFolder
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import DataError
from lct_pipeline.reporting.results import Results, results_of


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "models" / "tested", tmp_path / "reports" / "tested")


def save_checkpoint(run: RunFolder, **about: object) -> None:
    tensors = {"weight": torch.zeros(2, 3), "bias": torch.zeros(2)}
    dataset = CheckpointsDataset(path=str(run.models / "checkpoints"))
    dataset.save({"step-0000010-raw": TensorFile(tensors, {"step": 10, **about})})


def test_a_run_that_has_left_nothing_is_none(run: RunFolder) -> None:
    with pytest.raises(DataError, match="run tested has left nothing to report"):
        results_of(run, ingestion(), None)


def test_a_training_under_way_is_told_from_its_checkpoints(run: RunFolder) -> None:
    save_checkpoint(run, network=NETWORK.as_json())
    dataset = ParquetPartsDataset(path=str(run.models / "training_metrics"), key="step")
    dataset.save(metrics().iloc[:4])
    found = results_of(run, ingestion(), None)
    assert (found.network, found.num_weights) == (NETWORK, 8)
    assert found.training_metrics is not None
    assert found.training_metrics["step"].tolist() == [10, 20, 30, 40]


def test_checkpoints_of_another_trainer_have_no_network(run: RunFolder) -> None:
    save_checkpoint(run)
    found = results_of(run, None, None)
    assert (found.network, found.num_weights) == (None, 8)


def test_a_training_that_has_ended_is_told_from_its_record(run: RunFolder) -> None:
    training = {"network": NETWORK.as_json(), "num_weights": 5}
    found = results_of(run, ingestion(), training)
    assert found == Results(
        "tested", network=NETWORK, num_weights=5, ingestion=ingestion()
    )


def test_statistics_of_pixels_are_enough(run: RunFolder) -> None:
    path = run.reporting / "pixel_statistics.parquet"
    AtomicDataset(filepath=str(path)).save(statistics())
    found = results_of(run, None, None)
    assert found.pixel_statistics is not None
    assert found.evaluation == []


def test_an_evaluation_is_enough(run: RunFolder) -> None:
    path = str(run.reporting / "evaluation.json")
    dataset = ResultDataset(filepath=path, result="evaluation")
    dataset.save(EvaluationResult(rows=rows()))
    found = results_of(run, None, None)
    assert found.pixel_statistics is None
    assert found.evaluation == rows()


def test_searches_and_the_combination_are_found(run: RunFolder) -> None:
    save_checkpoint(run)
    path = str(run.models / "combination.json")
    ResultDataset(filepath=path, result="combination").save(combination())
    history = everything().search_history
    assert history is not None
    path = str(run.models / "search_history.parquet")
    GrowingTableDataset(filepath=path).save(history)
    found = results_of(run, None, None)
    assert found.combination == combination()
    pd.testing.assert_frame_equal(found.search_history, history)
