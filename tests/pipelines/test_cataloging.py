from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from conftest import SmokeResults
from lct_pipeline.datasets.checkpoint_matrix import checkpoint_matrix
from lct_pipeline.datasets.checkpoints import CheckpointStore
from lct_pipeline.errors import DataError
from lct_pipeline.pipelines.cataloging.index import NULLABLE
from lct_pipeline.pipelines.cataloging.nodes import index_checkpoints


@pytest.fixture
def store(results: SmokeResults, tmp_path: Path) -> CheckpointStore:
    """Return a copy of two checkpoints that a test may damage."""
    folder = tmp_path / "a-run" / "checkpoints"
    folder.mkdir(parents=True)
    for name in ("step-0000035-raw", "step-0000060-raw"):
        shutil.copy(results.run / "checkpoints" / f"{name}.safetensors", folder)
    return CheckpointStore(folder)


def test_a_row_says_what_the_checkpoint_says(store: CheckpointStore) -> None:
    index = index_checkpoints(store)
    row = index.iloc[-1]
    header = store.header("step-0000060-raw")
    assert row["run"] == "a-run"
    assert row["loss"] == header.loss
    assert row["num_images"] == 60 * 32
    assert row["parameters_digest"] == header.parameters_digest
    assert row["bytes"] == store.path(row["name"]).stat().st_size


def test_an_average_is_cataloged_with_its_rate_or_its_width(
    results: SmokeResults,
) -> None:
    index = results.catalog.load("checkpoint_index").rows.set_index("name")
    rates = index.loc[index["kind"] == "ema", "ema_rate"]
    assert set(rates) == {0.9, 0.95}
    assert index["ema_rate"].notna().sum() == len(rates)
    widths = index.loc[index["kind"] == "power", "ema_width"]
    assert widths.to_dict() == {
        f"step-00000{step}-power-0.1": 0.1 for step in (20, 40, 60)
    }
    assert index["ema_width"].notna().sum() == 3


def test_what_our_own_training_says_has_the_same_types(results: SmokeResults) -> None:
    index = results.catalog.load("checkpoint_index").rows
    types = {column: str(index[column].dtype) for column in NULLABLE}
    assert types == NULLABLE


def test_a_truncated_checkpoint_is_named_and_refused(store: CheckpointStore) -> None:
    path = store.path("step-0000060-raw")
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(DataError, match=r"step-0000060-raw.*truncated"):
        index_checkpoints(store)


def test_an_altered_checkpoint_is_named_and_refused_when_it_is_read(
    store: CheckpointStore,
) -> None:
    index = index_checkpoints(store)
    path = store.path("step-0000060-raw")
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"step-0000060-raw.*altered"):
        checkpoint_matrix(store, list(index["name"]), list(index["digest"]))


def test_a_checkpoint_that_was_replaced_is_refused(store: CheckpointStore) -> None:
    index = index_checkpoints(store)
    shutil.copy(store.path("step-0000035-raw"), store.path("step-0000060-raw"))
    with pytest.raises(DataError, match="not the checkpoint that was cataloged"):
        store.read("step-0000060-raw", index["digest"].iloc[-1])


def test_a_folder_without_checkpoints_says_train_first(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no checkpoint: train first"):
        index_checkpoints(CheckpointStore(tmp_path))
