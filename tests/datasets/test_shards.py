"""Stores of shards: written as a stream, continued, gathered from."""

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kedro.io import DatasetError

from lct_pipeline.datasets import shards as shards_module
from lct_pipeline.datasets.shard_file import ShardFile
from lct_pipeline.datasets.shards import (
    Shard,
    ShardsDataset,
    ShardStore,
    ShardStream,
    shard_path,
)
from lct_pipeline.datasets.tensors import DIGEST_KEY, write_tensors
from lct_pipeline.errors import DataError

SIZES = (3, 4, 0, 2)
VALUES = np.random.default_rng(0).integers(0, 256, (9, 2, 3), dtype=np.uint8)


def shards(first: int = 0, fail_at: int | None = None) -> Iterator[Shard]:
    ends = np.cumsum((0, *SIZES))
    for number in range(first, len(SIZES)):
        if number == fail_at:
            raise ZeroDivisionError
        part = torch.from_numpy(VALUES[ends[number] : ends[number + 1]].copy())
        rows = [{"number": int(i)} for i in range(ends[number], ends[number + 1])]
        yield Shard({"images": part, "halves": part.float() / 2}, rows)


def save(folder: Path, *, fingerprint: str = "f", **kwargs: int) -> None:
    stream = ShardStream(fingerprint, shards(**kwargs), kwargs.get("first", 0))
    ShardsDataset(path=str(folder)).save(stream)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def store(tmp_path: Path) -> ShardStore:
    save(tmp_path / "store")
    return ShardsDataset(path=str(tmp_path / "store")).load()


def test_a_finished_store_knows_its_length_origin_and_rows(store: ShardStore) -> None:
    assert store.complete
    assert store.fingerprint == "f"
    assert len(store) == 9
    assert [row["number"] for row in store.rows()] == list(range(9))
    assert [row["number"] for row in store.rows(1, 2)] == [3, 4, 5, 6]


@pytest.mark.parametrize(
    "indices",
    [[0], [8, 0, 4], [2, 3, 6, 7], [5, 5, 1, 5], list(range(8, -1, -1))],
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


def test_gather_of_random_draws_equals_indexing(store: ShardStore) -> None:
    indices = np.random.default_rng(1).integers(0, 9, 50)
    found = store.gather("images", indices).numpy()
    np.testing.assert_array_equal(found, VALUES[indices])


def test_gather_without_an_index_is_refused(store: ShardStore) -> None:
    with pytest.raises(ValueError, match="at least one index"):
        store.gather("images", np.array([], np.int64))


@pytest.mark.parametrize("index", [9, -1])
def test_gather_beyond_the_ends_is_refused(store: ShardStore, index: int) -> None:
    with pytest.raises(IndexError):
        store.gather("images", np.array([0, index]))


def test_batches_cover_all_records_in_order(store: ShardStore) -> None:
    batches = list(store.batches("images", 4))
    assert [len(batch) for batch in batches] == [4, 4, 1]
    np.testing.assert_array_equal(torch.cat(batches).numpy(), VALUES)


def test_batches_of_chosen_records_keep_their_order(store: ShardStore) -> None:
    chosen = np.array([7, 1, 3])
    batches = list(store.batches("images", 2, chosen))
    assert [len(batch) for batch in batches] == [2, 1]
    np.testing.assert_array_equal(torch.cat(batches).numpy(), VALUES[chosen])


def test_a_stream_that_raises_leaves_an_incomplete_store(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        save(tmp_path, fail_at=2)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert sorted(contents(tmp_path)) == [shard_path(tmp_path, n).name for n in (0, 1)]
    store = ShardStore(tmp_path)
    assert not store.complete
    assert store.fingerprint is None
    assert not ShardsDataset(path=str(tmp_path)).exists()
    with pytest.raises(DataError, match="is incomplete: run the stage"):
        len(store)


def test_whole_shards_of_the_same_origin_are_counted(tmp_path: Path) -> None:
    with pytest.raises(DatasetError):
        save(tmp_path, fail_at=2)
    store = ShardStore(tmp_path)
    assert store.num_finished_shards(repeat("f")) == 2
    assert store.num_finished_shards(repeat("other")) == 0
    assert [row["number"] for row in store.rows()] == list(range(7))


def test_counting_stops_at_the_first_missing_shard(store: ShardStore) -> None:
    shard_path(store.folder, 1).unlink()
    assert store.num_finished_shards(repeat("f")) == 1


def test_counting_names_a_truncated_shard(store: ShardStore) -> None:
    path = shard_path(store.folder, 1)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=rf"{path.name} is truncated.*Remove it"):
        store.num_finished_shards(repeat("f"))


def test_continuing_gives_the_same_bytes_as_writing_at_once(tmp_path: Path) -> None:
    save(tmp_path / "once")
    with pytest.raises(DatasetError):
        save(tmp_path / "twice", fail_at=2)
    first = ShardStore(tmp_path / "twice").num_finished_shards(repeat("f"))
    save(tmp_path / "twice", first=first)
    assert contents(tmp_path / "twice") == contents(tmp_path / "once")


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

    def write(path: Path, *args: Any) -> str:
        number = int(path.stem.removeprefix("shard-"))
        assert wanted[number + 1].wait(10), "the next shard is not made meanwhile"
        ahead.append(made[-1] - number)
        return write_tensors(path, *args)

    monkeypatch.setattr(shards_module, "write_tensors", write)
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

    def write(path: Path, *args: Any) -> str:
        if path == shard_path(tmp_path, 1):
            raise OSError("disk full")
        return write_tensors(path, *args)

    monkeypatch.setattr(shards_module, "write_tensors", write)
    with pytest.raises(DatasetError, match="disk full"):
        ShardsDataset(path=str(tmp_path)).save(ShardStream("f", stream()))
    assert closed == [True]
    assert sorted(contents(tmp_path)) == [shard_path(tmp_path, 0).name]


def test_finished_shards_are_not_written_again(store: ShardStore) -> None:
    before = {p.name: p.stat().st_mtime_ns for p in store.folder.glob("shard-*")}
    save(store.folder, first=len(SIZES))
    after = {p.name: p.stat().st_mtime_ns for p in store.folder.glob("shard-*")}
    assert after == before
    assert len(ShardStore(store.folder)) == 9


def test_another_origin_drops_the_index_before_its_first_shard(
    store: ShardStore,
) -> None:
    with pytest.raises(DatasetError):
        save(store.folder, fingerprint="other", fail_at=1)
    left = ShardStore(store.folder)
    assert not left.complete
    assert left.num_finished_shards(repeat("other")) == 1
    assert left.num_finished_shards(repeat("f")) == 0


def test_shards_that_an_older_run_left_are_removed(store: ShardStore) -> None:
    one = Shard({"images": torch.zeros(1, 2, 3, dtype=torch.uint8)}, [{}])
    (store.folder / ".tmp-1-shard-00007.safetensors").write_bytes(b"half, and killed")
    ShardsDataset(path=str(store.folder)).save(ShardStream("other", [one]))
    names = ["index.json", "shard-00000.safetensors"]
    assert sorted(contents(store.folder)) == names
    found = ShardStore(store.folder)
    assert (len(found), found.fingerprint) == (1, "other")


def test_reading_and_writing_to_what_was_read_leaves_the_file_as_it_is(
    store: ShardStore,
) -> None:
    path = shard_path(store.folder, 0)
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    arrays = ShardFile(path).arrays
    assert isinstance(arrays["images"], np.memmap)
    arrays["images"][:] = 7
    torch.from_numpy(arrays["halves"]).fill_(3)
    store.gather("images", np.array([0, 1])).zero_()
    del arrays
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before
    np.testing.assert_array_equal(
        ShardStore(store.folder).gather("images", np.arange(9)).numpy(), VALUES
    )


def test_a_flipped_byte_is_refused_when_the_shard_is_read(store: ShardStore) -> None:
    path = shard_path(store.folder, 1)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"{path.name} was altered"):
        store.gather("images", np.array([3]))
    np.testing.assert_array_equal(
        store.gather("images", np.array([0])).numpy(), VALUES[:1]
    )


def test_a_shard_that_is_not_the_indexed_one_is_refused(store: ShardStore) -> None:
    path = shard_path(store.folder, 1)
    path.write_bytes(shard_path(store.folder, 0).read_bytes())
    with pytest.raises(DataError, match=rf"{path.name} is not the shard"):
        len(store)


def test_a_missing_shard_of_a_finished_store_is_named(store: ShardStore) -> None:
    shard_path(store.folder, 3).unlink()
    with pytest.raises(DataError, match=r"shard-00003\.safetensors is missing"):
        len(store)


def test_the_index_holds_the_digests_of_the_shards(store: ShardStore) -> None:
    index = json.loads((store.folder / "index.json").read_text())
    digests = [shard.digest for shard in store.shards]
    assert [entry[DIGEST_KEY] for entry in index["shards"]] == digests


def test_leftover_temporary_files_are_not_read(store: ShardStore) -> None:
    for name in ("index.json", "shard-00004.safetensors", "shard-00000.safetensors"):
        (store.folder / f".tmp-{os.getpid() + 1}-{name}").write_bytes(b"half")
    found = ShardStore(store.folder)
    assert len(found) == 9
    assert found.num_finished_shards(repeat("f")) == len(SIZES)
    assert len(list(found.rows())) == 9


def test_an_empty_folder_is_an_incomplete_store(tmp_path: Path) -> None:
    dataset = ShardsDataset(path=str(tmp_path / "none"))
    assert not dataset.exists()
    assert dataset.load().num_finished_shards(repeat("f")) == 0
    assert list(dataset.load().rows()) == []


def test_a_shard_may_have_a_fingerprint_of_its_own(tmp_path: Path) -> None:
    dataset = ShardsDataset(path=str(tmp_path / "parts"))
    shards = [Shard({"x": torch.zeros(2, 1)}, [], name) for name in ("a", "b")]
    dataset.save(ShardStream("whole", shards))
    store = dataset.load()
    assert store.fingerprint == "whole"
    assert store.num_finished_shards(["a", "b", "c"]) == 2
    assert store.num_finished_shards(["a", "changed"]) == 1


def test_the_digest_of_a_store_is_of_what_its_shards_hold(tmp_path: Path) -> None:
    def digest(name: str, value: float) -> str:
        dataset = ShardsDataset(path=str(tmp_path / name))
        dataset.save(ShardStream("f", [Shard({"x": torch.full((2, 1), value)})]))
        return dataset.content_digest()

    assert digest("one", 1.0) == digest("same", 1.0) != digest("other", 2.0)
