"""Results in parts: complete when the last is there, and all files with it; tables that grow."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure

from lct_pipeline.datasets.parts import (
    INDEX,
    GrowingPictureDataset,
    GrowingTableDataset,
    Last,
    ParquetPartsDataset,
    close_folder,
    is_complete,
    open_folder,
    opened,
)


@pytest.mark.parametrize("value", [None, {}, {"a": 1}, (1, 2)])
def test_what_was_yielded_is_known_from_the_last_one(value: object) -> None:
    assert opened(value) == (value, False)
    assert opened(Last(value)) == (value, True)


@pytest.mark.parametrize("names", [[], ["b", "a"]])
def test_a_folder_is_complete_once_it_is_closed(
    tmp_path: Path, names: list[str]
) -> None:
    folder = tmp_path / "deep" / "parts"
    open_folder(folder)
    assert not is_complete(folder)
    folder.mkdir(parents=True)
    for name in [*names, "of another run", f".tmp-1-{INDEX}"]:  # a closing was killed
        (folder / name).touch()
    assert not is_complete(folder)
    close_folder(folder, names)
    assert is_complete(folder)
    (folder / "of another run").unlink()
    assert is_complete(folder)
    for name in names:
        (folder / name).unlink()
    assert is_complete(folder) == (not names)
    open_folder(folder)
    assert not is_complete(folder)


@pytest.fixture
def pieces(tmp_path: Path) -> ParquetPartsDataset:
    return ParquetPartsDataset(path=str(tmp_path / "metrics"), key="step")


def piece(*steps: int, loss: float = 0.0) -> pd.DataFrame:
    return pd.DataFrame({"step": steps, "loss": loss})


def test_pieces_come_back_in_the_order_of_their_key(
    pieces: ParquetPartsDataset,
) -> None:
    assert pieces.load().empty
    for steps in ((1000, 1010), (5, 10), (20,), (100_000_000,)):
        pieces.save(piece(*steps))
    pieces.save(pd.DataFrame())
    table = pieces.load()
    assert table["step"].tolist() == [5, 10, 20, 1000, 1010, 100_000_000]
    assert table.index.tolist() == list(range(6))
    assert [row[0] for row in pieces.preview(nrows=2)["data"]] == [1010, 100_000_000]


def test_a_piece_with_the_same_first_key_replaces_the_old_one(
    pieces: ParquetPartsDataset,
) -> None:
    pieces.save(piece(5, 10, loss=1.0))
    pieces.save(piece(15, 20, loss=1.0))
    pieces.save(piece(5, 10, loss=2.0))
    assert pieces.load()["step"].tolist() == [5, 10, 15, 20]
    assert pieces.load()["loss"].tolist() == [2.0, 2.0, 1.0, 1.0]


def test_values_and_types_come_back_as_saved(pieces: ParquetPartsDataset) -> None:
    table = pd.DataFrame(
        {"step": [3, 4], "alpha": [[0.5, -1.0], [2.0, 0.25]], "name": [None, "x"]}
    )
    pieces.save(table)
    found = pieces.load()
    assert found["step"].dtype == "int64"
    assert [list(row) for row in found["alpha"]] == [[0.5, -1.0], [2.0, 0.25]]
    assert found["name"].isna().tolist() == [True, False]


def test_a_failed_or_killed_save_leaves_the_old_piece(
    pieces: ParquetPartsDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_self: pd.DataFrame, path: Path, **_: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    pieces.save(piece(5, loss=1.0))
    monkeypatch.setattr(pd.DataFrame, "to_parquet", fail)
    with pytest.raises(Exception, match="disk full"):
        pieces.save(piece(5, loss=2.0))
    assert len(list((tmp_path / "metrics").iterdir())) == 1
    killed = tmp_path / "metrics" / ".tmp-1-part-000000009.parquet"
    killed.write_bytes(b"half")
    assert pieces.load()["loss"].tolist() == [1.0]


@pytest.mark.parametrize("last", [piece(10), pd.DataFrame()])
def test_it_exists_from_the_last_piece_on_until_another_comes_or_one_goes(
    pieces: ParquetPartsDataset, tmp_path: Path, last: pd.DataFrame
) -> None:
    pieces.save(piece(5))
    assert not pieces.exists()
    assert pieces.load()["step"].tolist() == [5]
    digest = pieces.content_digest()
    pieces.save(Last(last))
    assert pieces.exists()
    assert (pieces.content_digest() == digest) == last.empty
    pieces.save(piece(20))
    assert not pieces.exists()
    pieces.save(Last(pd.DataFrame()))
    assert pieces.exists()
    (tmp_path / "metrics" / "part-000000005.parquet").unlink()
    assert not pieces.exists()


ORIGIN: dict[str, Any] = {"window": 0.5, "checkpoints": ["a", "b"], "seed": None}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "history.parquet"


@pytest.fixture
def growing(path: Path) -> GrowingTableDataset:
    return GrowingTableDataset(filepath=str(path))


def table(*numbers: int, fitness: float = 0.5) -> pd.DataFrame:
    found = pd.DataFrame({"number": numbers, "fitness": fitness})
    found.attrs["origin"] = ORIGIN
    return found


@pytest.mark.parametrize("as_last", [True, False])
def test_values_types_and_attributes_come_back_as_saved(
    growing: GrowingTableDataset, as_last: bool
) -> None:
    saved = table(3, 4).assign(alpha=[[0.5, -1.0], [2.0, 0.25]], name=[None, "x"])
    growing.save(table(1, 2, 3))
    growing.save(Last(saved) if as_last else saved)
    found = growing.load()
    assert found.attrs == saved.attrs == {"origin": ORIGIN}
    assert [list(alpha) for alpha in found["alpha"]] == saved["alpha"].tolist()
    numbers = ["number", "fitness"]
    pd.testing.assert_frame_equal(found[numbers], saved[numbers], check_exact=True)
    assert found["name"].isna().tolist() == [True, False]


def test_it_exists_with_the_last_until_another_is_saved_and_loads_before(
    growing: GrowingTableDataset, path: Path
) -> None:
    assert not growing.exists() and growing.load().empty
    growing.save(table(1))
    (path.parent / f".tmp-1-{path.name}").write_bytes(b"half")  # of a killed save
    assert not growing.exists()
    assert growing.load()["number"].tolist() == [1]
    growing.save(Last(table(1, 2)))
    assert growing.exists()
    assert growing.load()["number"].tolist() == [1, 2]
    growing.save(table(1))
    assert not growing.exists()
    table(1).to_parquet(path)  # of another program
    assert not growing.exists()


@pytest.mark.parametrize("as_last", [True, False])
def test_an_empty_table_is_no_file_and_takes_an_old_one_away(
    growing: GrowingTableDataset, path: Path, as_last: bool
) -> None:
    growing.save(Last(table(1)))
    growing.save(Last(table()) if as_last else table())
    assert not path.exists()
    assert not growing.exists()
    assert growing.load().empty


def test_the_digest_is_of_the_content(growing: GrowingTableDataset) -> None:
    digests = []
    for fitness in (0.5, 0.5, 0.25):
        growing.save(Last(table(1, fitness=fitness)))
        digests.append(growing.content_digest())
    assert digests[0] == digests[1] != digests[2]


def test_a_growing_picture_is_drawn_when_its_turn_comes_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "run" / "samples.png"
    dataset = GrowingPictureDataset(filepath=str(path), latest=True)
    dataset.save(lambda: None)
    assert not dataset.exists()
    caplog.set_level("INFO", logger="lct_pipeline")
    dataset.save(Figure)
    first = dataset.load()
    dataset.save(lambda: None)
    assert dataset.load() == first
    assert (tmp_path / "samples.png").read_bytes() == first
    dataset.save(lambda: Figure(figsize=(1, 1)))
    assert dataset.load() != first
    assert caplog.text.count(f"Samples are in {path}") == 1
