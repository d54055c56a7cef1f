"""One shard on disk: read by record or whole, verified."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from lct_pipeline.datasets import shard_file
from lct_pipeline.datasets.shard_file import ShardFile, write_shard
from lct_pipeline.datasets.tensors import write_tensors
from lct_pipeline.errors import DataError

VALUES = torch.randn(40, 2, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "shard.safetensors"
    tensors = {"mean": VALUES, "half": VALUES.half(), "levels": VALUES.byte()}
    write_shard(path, tensors, pa.table({"number": [7]}), "made from this")
    return path


def alter(path: Path) -> None:
    """Change the last byte, and the time of change even where clocks are coarse."""
    content, status = bytearray(path.read_bytes()), path.stat()
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**6))


def test_a_shard_knows_its_records(path: Path) -> None:
    shard = ShardFile(path)
    assert shard.num_items == 40
    assert set(shard.names) == {"mean", "half", "levels"}
    assert shard.record_shape("half") == (2, 3)
    assert shard.record_bytes == 6 * (4 + 2 + 1)
    assert shard.fingerprint == "made from this"
    assert shard.rows.to_pylist() == [{"number": 7}]


@pytest.mark.parametrize(
    "places",
    [
        [0],
        [39],
        list(range(40)),
        [5, 4, 3],
        [7, 7, 8],
        [0, 1, 2, 10, 11, 3, 39, 0],
        np.random.default_rng(0).integers(0, 40, 200).tolist(),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["mean", "half", "levels"])
def test_reading_is_indexing(path: Path, places: list[int], name: str) -> None:
    shard = ShardFile(path)
    found = shard.read(name, np.array(places))
    expected = shard.arrays[name][places]
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, VALUES.numpy()[places].astype(found.dtype))
    np.testing.assert_array_equal(found, expected)


def test_content_is_verified_once_in_a_process(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified: list[str] = []
    digest = shard_file.content_digest

    def counted(*args: object) -> str:
        verified.append("once")
        return digest(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(shard_file, "content_digest", counted)
    for _ in range(2):
        shard = ShardFile(path)
        shard.read("mean", np.array([1]))
        assert shard.arrays["half"].shape == (40, 2, 3)
    assert verified == ["once"]


def test_a_file_that_changed_since_is_verified_again(path: Path) -> None:
    ShardFile(path).read("mean", np.array([0]))
    alter(path)
    changed = ShardFile(path)
    for read in (lambda: changed.arrays, lambda: changed.read("mean", np.array([0]))):
        with pytest.raises(DataError, match=f"{path.name} was altered"):
            read()


def test_rows_that_are_not_those_that_were_written_are_refused(path: Path) -> None:
    rows = path.with_suffix(".parquet")
    alter(rows)
    with pytest.raises(DataError, match=rf"{rows.name} was altered.*Remove .*{path}"):
        _ = ShardFile(path).rows
    rows.unlink()
    with pytest.raises(DataError, match=f"{rows.name} was altered"):
        _ = ShardFile(path).rows


def test_a_file_cut_short_after_it_was_verified_is_named(path: Path) -> None:
    shard = ShardFile(path)
    shard.read("mean", np.array([0]))
    os.truncate(path, path.stat().st_size - VALUES.numel())
    with pytest.raises(DataError, match=f"{path.name} was cut short"):
        shard.read("levels", np.array([39]))


def test_a_shard_is_sent_without_its_content(path: Path) -> None:
    shard = ShardFile(path)
    shard.read("mean", np.array([0]))
    sent = pickle.dumps(shard)
    assert len(sent) < 1000
    np.testing.assert_array_equal(
        pickle.loads(sent).read("mean", np.array([3])), VALUES[3:4]
    )


def test_a_shard_with_its_rows_in_its_header_is_of_an_earlier_version(
    tmp_path: Path,
) -> None:
    path = tmp_path / "shard.safetensors"
    about = {"fingerprint": "made from this", "rows": [{"number": 7}]}
    write_tensors(path, {"images": VALUES.byte()}, about)
    with pytest.raises(DataError, match=rf"{tmp_path} is of an earlier version.*Move"):
        _ = ShardFile(path).rows
