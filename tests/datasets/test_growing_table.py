"""A table that is written again while it grows, in one file."""

from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
import pytest

from lct_pipeline.datasets.growing_table import GrowingTableDataset
from lct_pipeline.datasets.parts import Last

ORIGIN: dict[str, Any] = {"window": 0.5, "checkpoints": ["a", "b"], "seed": None}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "history.parquet"


@pytest.fixture
def dataset(path: Path) -> GrowingTableDataset:
    return GrowingTableDataset(filepath=str(path))


def table(*numbers: int, fitness: float = 0.5) -> pd.DataFrame:
    found = pd.DataFrame({"number": numbers, "fitness": fitness})
    found.attrs["origin"] = ORIGIN
    return found


@pytest.mark.parametrize("as_last", [True, False])
def test_values_types_and_attributes_come_back_as_saved(
    dataset: GrowingTableDataset, as_last: bool
) -> None:
    saved = table(3, 4).assign(alpha=[[0.5, -1.0], [2.0, 0.25]], name=[None, "x"])
    dataset.save(table(1, 2, 3))
    dataset.save(Last(saved) if as_last else saved)
    found = dataset.load()
    assert found.attrs == saved.attrs == {"origin": ORIGIN}
    assert [list(alpha) for alpha in found["alpha"]] == saved["alpha"].tolist()
    numbers = ["number", "fitness"]
    pd.testing.assert_frame_equal(found[numbers], saved[numbers], check_exact=True)
    assert found["name"].isna().tolist() == [True, False]


def test_it_exists_with_the_last_until_another_is_saved_and_loads_before(
    dataset: GrowingTableDataset, path: Path
) -> None:
    assert not dataset.exists() and dataset.load().empty
    dataset.save(table(1))
    (path.parent / f".tmp-1-{path.name}").write_bytes(b"half")  # of a killed save
    assert not dataset.exists()
    assert dataset.load()["number"].tolist() == [1]
    dataset.save(Last(table(1, 2)))
    assert dataset.exists()
    assert dataset.load()["number"].tolist() == [1, 2]
    dataset.save(table(1))
    assert not dataset.exists()
    table(1).to_parquet(path)  # of another program
    assert not dataset.exists()


@pytest.mark.parametrize("as_last", [True, False])
def test_an_empty_table_is_no_file_and_takes_an_old_one_away(
    dataset: GrowingTableDataset, path: Path, as_last: bool
) -> None:
    dataset.save(Last(table(1)))
    dataset.save(Last(table()) if as_last else table())
    assert not path.exists()
    assert not dataset.exists()
    assert dataset.load().empty


def test_a_failed_save_leaves_the_old_file(
    dataset: GrowingTableDataset, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_self: pd.DataFrame, file: BinaryIO, **_: object) -> None:
        file.write(b"half")
        raise OSError("disk full")

    dataset.save(Last(table(1)))
    monkeypatch.setattr(pd.DataFrame, "to_parquet", fail)
    with pytest.raises(Exception, match="disk full"):
        dataset.save(table(1, 2))
    assert dataset.exists()
    assert dataset.load()["number"].tolist() == [1]
    assert list(path.parent.iterdir()) == [path]


def test_the_digest_is_of_the_content(dataset: GrowingTableDataset) -> None:
    digests = []
    for fitness in (0.5, 0.5, 0.25):
        dataset.save(Last(table(1, fitness=fitness)))
        digests.append(dataset.content_digest())
    assert digests[0] == digests[1] != digests[2]
