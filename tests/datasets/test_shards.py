"""Stores of shards: written as a stream, continued, gathered from."""

import json
import threading
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from kedro.io import DatasetError

from lct_pipeline.datasets import shards as shards_module
from lct_pipeline.datasets.shard_file import write_shard
from lct_pipeline.datasets.shards import (
    Shard,
    ShardsDataset,
    ShardStore,
    ShardStream,
    shard_path,
)
from lct_pipeline.datasets.tensors import DIGEST_KEY
from lct_pipeline.errors import DataError

SIZES = (3, 4, 0, 2)
VALUES = np.random.default_rng(0).integers(0, 256, (9, 2, 3), dtype=np.uint8)


def shards(first: int = 0, fail_at: int | None = None) -> Iterator[Shard]:
    ends = np.cumsum((0, *SIZES))
    for number in range(first, len(SIZES)):
        if number == fail_at:
            raise ZeroDivisionError
        chosen = range(ends[number], ends[number + 1])
        part = torch.from_numpy(VALUES[chosen].copy())
        rows = pa.table({"number": pa.array(chosen, pa.int64())})
        yield Shard({"images": part, "halves": part.float() / 2}, rows)


def save(folder: Path, *, fingerprint: str = "f", **kwargs: int) -> None:
    stream = ShardStream(fingerprint, shards(**kwargs), kwargs.get("first", 0))
    ShardsDataset(path=str(folder)).save(stream)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def names_of(*numbers: int) -> set[str]:
    kinds = ("parquet", "safetensors")
    return {f"shard-0000{n}.{kind}" for n in numbers for kind in kinds}


def numbers(store: ShardStore, num_shards: int) -> list[int]:
    return [n for rows in store.rows(num_shards) for n in rows["number"].to_pylist()]


@pytest.fixture
def store(tmp_path: Path) -> ShardStore:
    save(tmp_path / "store")
    return ShardsDataset(path=str(tmp_path / "store")).load()


def test_a_finished_store_knows_its_length_origin_and_rows(store: ShardStore) -> None:
    assert store.complete
    assert (len(store), store.fingerprint) == (9, "f")
    assert numbers(store, 4) == list(range(9))
    assert numbers(store, 2) == list(range(7))
    index = json.loads((store.folder / "index.json").read_text())
    digests = [shard.digest for shard in store.shards]
    assert [entry[DIGEST_KEY] for entry in index["shards"]] == digests


@pytest.mark.parametrize(
    "indices",
    [
        [0],
        [8, 0, 4],
        [2, 3, 6, 7],
        [5, 5, 1, 5],
        list(range(8, -1, -1)),
        np.random.default_rng(1).integers(0, 9, 50).tolist(),
    ],
    ids=str,
)
def test_gather_equals_indexing_the_concatenation(
    store: ShardStore, indices: list[int]
) -> None:
    found = store.gather("images", np.array(indices))
    assert found.dtype == torch.uint8
    np.testing.assert_array_equal(found.numpy(), VALUES[indices])
    halves = store.gather("halves", np.array(indices)).numpy()
    np.testing.assert_array_equal(halves, VALUES[indices] / np.float32(2))


@pytest.mark.parametrize(
    ("indices", "error"), [([], ValueError), ([0, 9], IndexError), ([-1], IndexError)]
)
def test_gather_of_nothing_and_beyond_the_ends_is_refused(
    store: ShardStore, indices: list[int], error: type[Exception]
) -> None:
    with pytest.raises(error):
        store.gather("images", np.array(indices, np.int64))


@pytest.mark.parametrize(
    ("chosen", "sizes"), [(None, [4, 4, 1]), (np.array([7, 1, 3, 2, 8]), [4, 1])]
)
def test_batches_cover_the_records_in_order(
    store: ShardStore, chosen: np.ndarray | None, sizes: list[int]
) -> None:
    batches = list(store.batches("images", 4, chosen))
    assert [len(batch) for batch in batches] == sizes
    expected = VALUES if chosen is None else VALUES[chosen]
    np.testing.assert_array_equal(torch.cat(batches).numpy(), expected)


def test_a_stream_that_raises_leaves_an_incomplete_store(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        save(tmp_path, fail_at=2)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert set(contents(tmp_path)) == names_of(0, 1)
    store = ShardStore(tmp_path)
    assert not store.complete and store.fingerprint is None
    assert not ShardsDataset(path=str(tmp_path)).exists()
    with pytest.raises(DataError, match="is incomplete: run the stage"):
        len(store)
    assert store.num_finished_shards(repeat("f")) == 2
    assert store.num_finished_shards(repeat("other")) == 0
    assert numbers(store, 2) == list(range(7))


def test_counting_stops_at_the_first_missing_shard_and_names_a_truncated_one(
    store: ShardStore,
) -> None:
    path = shard_path(store.folder, 1)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=rf"{path.name} is truncated.*Remove it"):
        store.num_finished_shards(repeat("f"))
    path.unlink()
    assert store.num_finished_shards(repeat("f")) == 1
    assert ShardStore(store.folder / "none").num_finished_shards(repeat("f")) == 0


def test_continuing_gives_the_same_bytes_as_writing_at_once(tmp_path: Path) -> None:
    save(tmp_path / "once")
    with pytest.raises(DatasetError):
        save(tmp_path / "twice", fail_at=2)
    first = ShardStore(tmp_path / "twice").num_finished_shards(repeat("f"))
    save(tmp_path / "twice", first=first)
    assert contents(tmp_path / "twice") == contents(tmp_path / "once")
    files = sorted((tmp_path / "twice").glob("shard-*"))
    before = [path.stat().st_mtime_ns for path in files]
    save(tmp_path / "twice", first=len(SIZES))  # what is there is not written again
    assert [path.stat().st_mtime_ns for path in files] == before


def test_a_shard_is_written_while_the_next_is_made_and_none_waits_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "plain")
    made, wanted = [-1], [threading.Event() for _ in range(len(SIZES) + 1)]
    ahead: list[int] = []

    def stream() -> Iterator[Shard]:
        for number, shard in enumerate(shards()):
            wanted[number].set()
            made.append(number)
            yield shard
        wanted[len(SIZES)].set()

    def write(path: Path, *args: Any) -> None:
        number = int(path.stem.removeprefix("shard-"))
        assert wanted[number + 1].wait(10), "the next shard is not made meanwhile"
        ahead.append(made[-1] - number)
        write_shard(path, *args)

    monkeypatch.setattr(shards_module, "write_shard", write)
    ShardsDataset(path=str(tmp_path / "slow")).save(ShardStream("f", stream()))
    assert contents(tmp_path / "slow") == contents(tmp_path / "plain")
    assert set(ahead) <= {0, 1}


def test_a_write_that_fails_ends_the_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []

    def stream() -> Iterator[Shard]:
        try:
            yield from shards()
        finally:
            closed.append(True)

    def write(path: Path, *args: Any) -> None:
        if path == shard_path(tmp_path, 1):
            raise OSError("disk full")
        write_shard(path, *args)

    monkeypatch.setattr(shards_module, "write_shard", write)
    with pytest.raises(DatasetError, match="disk full"):
        ShardsDataset(path=str(tmp_path)).save(ShardStream("f", stream()))
    assert closed == [True]
    assert set(contents(tmp_path)) == names_of(0)


def test_another_origin_drops_the_index_before_its_first_shard(
    store: ShardStore,
) -> None:
    with pytest.raises(DatasetError):
        save(store.folder, fingerprint="other", fail_at=1)
    left = ShardStore(store.folder)
    assert not left.complete
    assert left.num_finished_shards(repeat("other")) == 1
    assert left.num_finished_shards(repeat("f")) == 0


def test_what_older_and_killed_runs_left_is_not_read_and_removed(
    store: ShardStore,
) -> None:
    for name in ("index.json", "shard-00004.safetensors", "shard-00000.parquet"):
        (store.folder / f".tmp-1-{name}").write_bytes(b"half, and killed")
    found = ShardStore(store.folder)
    assert len(found) == 9
    assert found.num_finished_shards(repeat("f")) == len(SIZES)
    one = Shard({"images": torch.zeros(1, 2, 3, dtype=torch.uint8)})
    ShardsDataset(path=str(store.folder)).save(ShardStream("other", [one]))
    assert set(contents(store.folder)) == {"index.json", *names_of(0)}
    found = ShardStore(store.folder)
    assert (len(found), found.fingerprint) == (1, "other")


def test_a_shard_that_is_not_the_indexed_one_is_refused(store: ShardStore) -> None:
    path = shard_path(store.folder, 1)
    path.write_bytes(shard_path(store.folder, 0).read_bytes())
    with pytest.raises(DataError, match=rf"{path.name} is not the shard"):
        len(store)
    path.unlink()
    with pytest.raises(DataError, match=r"shard-00001\.safetensors is missing"):
        len(ShardStore(store.folder))


def test_a_shard_may_have_a_fingerprint_of_its_own(tmp_path: Path) -> None:
    dataset = ShardsDataset(path=str(tmp_path / "parts"))
    shards = [Shard({"x": torch.zeros(2, 1)}, None, name) for name in ("a", "b")]
    dataset.save(ShardStream("whole", shards))
    store = dataset.load()
    assert store.fingerprint == "whole"
    assert store.num_finished_shards(["a", "b", "c"]) == 2
    assert store.num_finished_shards(["a", "changed"]) == 1


def test_the_digest_of_a_store_is_of_what_its_shards_hold(tmp_path: Path) -> None:
    def digest(name: str, value: float, row: int) -> str:
        dataset = ShardsDataset(path=str(tmp_path / name))
        shard = Shard({"x": torch.full((2, 1), value)}, pa.table({"row": [row]}))
        dataset.save(ShardStream("f", [shard]))
        return dataset.content_digest()

    assert digest("one", 1.0, 1) == digest("same", 1.0, 1)
    others = {digest("tensors", 2.0, 1), digest("rows", 1.0, 2), digest("1", 1.0, 1)}
    assert len(others) == 3
