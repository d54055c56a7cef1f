"""Series of equal-shaped records in shards: written one at a time, read by slice.

A store is a folder of ``shard-00000.safetensors``, ... with their rows in ``shard-00000.parquet``,
... and an ``index.json`` that is written last: a folder without one is incomplete. Each shard names
the fingerprint of what it was made from, so an interrupted writer continues after the last whole
shard and never mixes two sources, and where a source grew, the shards of what did not change are
kept.

Memory does not grow with the number of records: records are read from the files, not mapped, since
pages of a map count as memory of the process for as long as it is open; and a shard is written
while the next is made, never more than one.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from kedro.io import AbstractDataset
from kedro_datasets._typing import ImagePreview
from torch import Tensor

from lct_pipeline.datasets.files import atomic_path
from lct_pipeline.datasets.previews import NOTHING, NUM_THUMBNAILS, thumbnails
from lct_pipeline.datasets.shard_file import ShardFile, write_shard
from lct_pipeline.datasets.tensors import DIGEST_KEY
from lct_pipeline.errors import DataError
from lct_pipeline.given_files import indexed_file, regular_file
from lct_pipeline.models.digests import digest_of_digests


@dataclass(frozen=True)
class Shard:
    """Records of one shard: tensors of equal length, and rows about what they were made from.

    ``fingerprint`` is of what this shard was made from, None where only the whole has one.
    """

    tensors: dict[str, Tensor]
    rows: pa.Table | None = None
    fingerprint: str | None = None


@dataclass(frozen=True)
class ShardStream:
    """What a node hands to a :class:`ShardsDataset`: shards from ``first_shard`` on.

    The shards before ``first_shard`` are already in the folder, made from the same. A shard is
    written while the next is made: its tensors are not to be changed once it is yielded.
    """

    fingerprint: str
    shards: Iterable[Shard]
    first_shard: int = 0


class ShardStore:
    """A folder of shards, read by slice; memory does not grow with its size."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def _index(self) -> dict[str, Any]:
        path = self.folder / "index.json"
        return json.loads(regular_file(path).read_text()) if path.exists() else {}

    @property
    def complete(self) -> bool:
        """Whether all shards of one source are there."""
        return bool(self._index)

    @property
    def fingerprint(self) -> str | None:
        """What the shards were made from; None while incomplete."""
        return self._index.get("fingerprint")

    @cached_property
    def shards(self) -> list[ShardFile]:
        """The shards of a complete store.

        Raises:
            DataError: The store is incomplete, or a shard is not the one that was indexed.
        """
        if not self.complete:
            raise DataError(
                f"{self.folder} is incomplete: run the stage that writes it again."
            )
        index = self.folder / "index.json"
        names = [entry["name"] for entry in self._index["shards"]]
        shards = [ShardFile(indexed_file(index, name)) for name in names]
        for shard, entry in zip(shards, self._index["shards"], strict=True):
            if shard.digest != entry[DIGEST_KEY]:
                raise DataError(
                    f"{shard.path} is not the shard that was written. Remove it."
                )
        return shards

    @cached_property
    def _ends(self) -> np.ndarray:
        return np.cumsum([shard.num_items for shard in self.shards])

    def __len__(self) -> int:
        """Number of records."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def num_finished_shards(self, fingerprints: Iterable[str]) -> int:
        """Return how many shards, counted from the first, were made from these, one for each."""
        count = 0
        for fingerprint in fingerprints:
            path = shard_path(self.folder, count)
            if not path.exists() or ShardFile(path).fingerprint != fingerprint:
                break
            count += 1
        return count

    def rows(self, num_shards: int) -> Iterator[pa.Table]:
        """Yield the rows of each of the first shards; works on an incomplete store."""
        for number in range(num_shards):
            yield ShardFile(shard_path(self.folder, number)).rows

    def gather(self, name: str, indices: np.ndarray) -> Tensor:
        """Return the records ``indices``, ``(B,)``, of the tensor ``name``, in that order."""
        if len(indices) == 0:
            raise ValueError("gather needs at least one index")
        if indices.min() < 0 or indices.max() >= len(self):
            raise IndexError(f"{self.folder} has {len(self)} records")
        which = np.searchsorted(self._ends, indices, side="right")
        out: np.ndarray | None = None
        for number in np.unique(which):
            shard, at = self.shards[number], np.flatnonzero(which == number)
            start = self._ends[number] - shard.num_items
            values = shard.read(name, indices[at] - start)
            if out is None:
                out = np.empty((len(indices), *values.shape[1:]), values.dtype)
            out[at] = values
        return torch.from_numpy(out)

    def batches(
        self, name: str, batch_size: int, indices: np.ndarray | None = None
    ) -> Iterator[Tensor]:
        """Yield the tensor ``name`` in batches, of all records or of ``indices``."""
        chosen = np.arange(len(self)) if indices is None else indices
        for start in range(0, len(chosen), batch_size):
            yield self.gather(name, chosen[start : start + batch_size])


def shard_path(folder: Path, number: int) -> Path:
    """Return the file of shard ``number``."""
    return folder / f"shard-{number:05d}.safetensors"


class ShardsDataset(AbstractDataset[ShardStream, ShardStore]):
    """``ShardsDataset`` writes a stream of shards to a folder and reads it back as a store.

    Example for the catalog:

    .. code-block:: yaml

        latents:
          type: lct_pipeline.datasets.shards.ShardsDataset
          path: data/04_feature/latents

    Args:
        path: The folder.
        written_by: Name of the pipeline that writes them, for the message when they are missing.
        metadata: Anything, for plugins such as kedro-viz.
    """

    def __init__(
        self,
        *,
        path: str,
        written_by: str = "ingest",
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._path, self.written_by = Path(path), written_by
        self.metadata = metadata

    def load(self) -> ShardStore:
        """Return the store; what it holds is read when it is asked for."""
        return ShardStore(self._path)

    def save(self, data: ShardStream) -> None:
        """Write the shards as they come, then the index; remove what an older run left."""
        index_path = self._path / "index.json"
        if ShardStore(self._path).fingerprint != data.fingerprint:
            index_path.unlink(missing_ok=True)
        num_shards = data.first_shard + self._write_shards(data)
        self._remove_from(num_shards)
        shards = [ShardFile(shard_path(self._path, n)) for n in range(num_shards)]
        entries = [{"name": s.path.name, DIGEST_KEY: s.digest} for s in shards]
        with atomic_path(index_path) as temporary:
            temporary.write_text(
                json.dumps({"fingerprint": data.fingerprint, "shards": entries})
            )

    def _write_shards(self, data: ShardStream) -> int:
        """Write each shard while the next is made; return how many there were.

        What is being written when the stream ends, or fails, is written to its end.
        """
        count, writing = 0, Future[None]()
        writing.set_result(None)
        with (
            ThreadPoolExecutor(1, "shard writer") as pool,
            closing(_each(data.shards)) as shards,
        ):
            for count, shard in enumerate(shards, 1):
                writing.result()
                path = shard_path(self._path, data.first_shard + count - 1)
                made_from = shard.fingerprint or data.fingerprint
                writing = pool.submit(
                    write_shard, path, shard.tensors, shard.rows, made_from
                )
            writing.result()
        return count

    def _remove_from(self, number: int) -> None:
        """Remove shards of a longer store, and what killed writers left."""
        first = shard_path(self._path, number).stem
        for path in self._path.glob("*"):
            is_shard = path.suffix in {".safetensors", ".parquet"}
            if path.name.startswith(".tmp-") or (is_shard and path.stem >= first):
                path.unlink()

    def content_digest(self) -> str:
        """Return a digest of the digests of all shards."""
        return digest_of_digests(s.digest for s in self.load().shards)

    def preview(self) -> ImagePreview:
        """Return the first records as pictures for kedro-viz."""
        store = self.load()
        if not store.complete:
            return NOTHING
        first = np.arange(min(NUM_THUMBNAILS, len(store)))
        return thumbnails(store.gather(sorted(store.shards[0].names)[0], first).numpy())

    def _exists(self) -> bool:
        return ShardStore(self._path).complete

    def _describe(self) -> dict[str, Any]:
        return {"path": str(self._path)}


def _each(shards: Iterable[Shard]) -> Generator[Shard]:
    """Yield the shards; a generator of them is closed with this one: processes may work for it."""
    yield from shards
