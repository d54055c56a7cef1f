"""A table that grows by pieces."""

from pathlib import Path

import pandas as pd
import pytest

from lct_pipeline.datasets.parquet_parts import ParquetPartsDataset
from lct_pipeline.datasets.parts import Last


@pytest.fixture
def dataset(tmp_path: Path) -> ParquetPartsDataset:
    return ParquetPartsDataset(path=str(tmp_path / "metrics"), key="step")


def piece(*steps: int, loss: float = 0.0) -> pd.DataFrame:
    return pd.DataFrame({"step": steps, "loss": loss})


def test_pieces_come_back_in_the_order_of_their_key(
    dataset: ParquetPartsDataset,
) -> None:
    assert dataset.load().empty
    for steps in ((1000, 1010), (5, 10), (20,), (100_000_000,)):
        dataset.save(piece(*steps))
    dataset.save(pd.DataFrame())
    table = dataset.load()
    assert table["step"].tolist() == [5, 10, 20, 1000, 1010, 100_000_000]
    assert table.index.tolist() == list(range(6))
    assert [row[0] for row in dataset.preview(nrows=2)["data"]] == [1010, 100_000_000]


def test_a_piece_with_the_same_first_key_replaces_the_old_one(
    dataset: ParquetPartsDataset,
) -> None:
    dataset.save(piece(5, 10, loss=1.0))
    dataset.save(piece(15, 20, loss=1.0))
    dataset.save(piece(5, 10, loss=2.0))
    assert dataset.load()["step"].tolist() == [5, 10, 15, 20]
    assert dataset.load()["loss"].tolist() == [2.0, 2.0, 1.0, 1.0]


def test_values_and_types_come_back_as_saved(dataset: ParquetPartsDataset) -> None:
    table = pd.DataFrame(
        {"step": [3, 4], "alpha": [[0.5, -1.0], [2.0, 0.25]], "name": [None, "x"]}
    )
    dataset.save(table)
    found = dataset.load()
    assert found["step"].dtype == "int64"
    assert [list(row) for row in found["alpha"]] == [[0.5, -1.0], [2.0, 0.25]]
    assert found["name"].isna().tolist() == [True, False]


def test_a_failed_or_killed_save_leaves_the_old_piece(
    dataset: ParquetPartsDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_self: pd.DataFrame, path: Path, **_: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    dataset.save(piece(5, loss=1.0))
    monkeypatch.setattr(pd.DataFrame, "to_parquet", fail)
    with pytest.raises(Exception, match="disk full"):
        dataset.save(piece(5, loss=2.0))
    assert len(list((tmp_path / "metrics").iterdir())) == 1
    killed = tmp_path / "metrics" / ".tmp-1-part-000000009.parquet"
    killed.write_bytes(b"half")
    assert dataset.load()["loss"].tolist() == [1.0]


@pytest.mark.parametrize("last", [piece(10), pd.DataFrame()])
def test_it_exists_from_the_last_piece_on_until_another_comes_or_one_goes(
    dataset: ParquetPartsDataset, tmp_path: Path, last: pd.DataFrame
) -> None:
    dataset.save(piece(5))
    assert not dataset.exists()
    assert dataset.load()["step"].tolist() == [5]
    digest = dataset.content_digest()
    dataset.save(Last(last))
    assert dataset.exists()
    assert (dataset.content_digest() == digest) == last.empty
    dataset.save(piece(20))
    assert not dataset.exists()
    dataset.save(Last(pd.DataFrame()))
    assert dataset.exists()
    (tmp_path / "metrics" / "part-000000005.parquet").unlink()
    assert not dataset.exists()
