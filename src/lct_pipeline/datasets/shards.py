"""Series of equal-shaped records in shards: written one at a time, read by slice.

A store is a folder of ``shard-00000.safetensors``, ... and an ``index.json`` that is written last:
a folder without one is incomplete. Each shard names the fingerprint of what it was made from, so
an interrupted writer continues after the last whole shard and never mixes two sources.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from kedro.io import AbstractDataset

from lct_pipeline.datasets.files import (
    DIGEST_KEY,
    atomic_path,
    content_digest,
    read_header,
    write_tensors,
)
from lct_pipeline.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

_NUMPY_TYPES = {"U8": np.uint8, "F16": np.float16, "F32": np.float32, "I64": np.int64}


@dataclass(frozen=True)
class Shard:
    """Records of one shard: tensors of equal length, and rows of JSON values about them."""

    tensors: dict[str, Tensor]
    rows: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class ShardStream:
    """What a node hands to a :class:`ShardsDataset`: shards from ``first_shard`` on.

    The shards before ``first_shard`` are already in the folder, with the same fingerprint.
    """

    fingerprint: str
    shards: Iterable[Shard]
    first_shard: int = 0


class ShardFile:
    """One shard on disk, memory-mapped when it is first read and verified then."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metadata, self._entries, self._offset = read_header(path)

    @property
    def num_items(self) -> int:
        """Number of records, the length of every tensor."""
        return next(iter(self._entries.values()))["shape"][0]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows that were written with the tensors."""
        return self.metadata["rows"]

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """The tensors as read-only maps of the file; no values are in memory yet.

        Raises:
            DataError: The content does not have the digest that was written with it.
        """
        import torch

        maps = {name: self._map(entry) for name, entry in self._entries.items()}
        content = {name: torch.from_numpy(a) for name, a in maps.items()}
        about = {k: v for k, v in self.metadata.items() if k != DIGEST_KEY}
        if content_digest(content, about) != self.metadata[DIGEST_KEY]:
            raise DataError(
                f"{self.path} was altered after it was written. Remove it and run again."
            )
        return maps

    def _map(self, entry: dict[str, Any]) -> np.ndarray:
        start = self._offset + entry["data_offsets"][0]
        dtype, shape = _NUMPY_TYPES[entry["dtype"]], tuple(entry["shape"])
        if 0 in shape:
            return np.empty(shape, dtype)
        # mode "c": pages are private copies, so torch may wrap them and the file stays as it is
        return np.memmap(self.path, dtype, "c", start, shape)


class ShardStore:
    """A folder of shards, read by slice; memory does not grow with its size."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def _index(self) -> dict[str, Any]:
        path = self.folder / "index.json"
        return json.loads(path.read_text()) if path.exists() else {}

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
        shards = []
        for entry in self._index["shards"]:
            shard = ShardFile(self.folder / entry["name"])
            if shard.metadata[DIGEST_KEY] != entry[DIGEST_KEY]:
                raise DataError(
                    f"{shard.path} is not the shard that was written. Remove it."
                )
            shards.append(shard)
        return shards

    @cached_property
    def _ends(self) -> np.ndarray:
        return np.cumsum([shard.num_items for shard in self.shards])

    def __len__(self) -> int:
        """Number of records."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def num_finished_shards(self, fingerprint: str) -> int:
        """Return how many shards, counted from the first, were made from ``fingerprint``."""
        count = 0
        while (path := shard_path(self.folder, count)).exists():
            if read_header(path)[0]["fingerprint"] != fingerprint:
                break
            count += 1
        return count

    def rows(self, first: int = 0, last: int | None = None) -> Iterator[dict[str, Any]]:
        """Yield the rows of the shards ``first`` to ``last``; works on an incomplete store."""
        number = first
        while last is None or number < last:
            path = shard_path(self.folder, number)
            if not path.exists():
                return
            yield from ShardFile(path).rows
            number += 1

    def gather(self, name: str, indices: np.ndarray) -> Tensor:
        """Return the records ``indices``, ``(B,)``, of the tensor ``name``, in that order."""
        import torch

        which = np.searchsorted(self._ends, indices, side="right")
        out: np.ndarray | None = None
        for number in np.unique(which):
            shard, at = self.shards[number], np.flatnonzero(which == number)
            start = self._ends[number] - shard.num_items
            values = shard.arrays[name][indices[at] - start]
            if out is None:
                out = np.empty((len(indices), *values.shape[1:]), values.dtype)
            out[at] = values
        if out is None:
            raise ValueError("gather needs at least one index")
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
        metadata: Anything, for plugins such as kedro-viz.
    """

    def __init__(self, *, path: str, metadata: dict[str, Any] | None = None) -> None:
        self._path = Path(path)
        self.metadata = metadata

    def load(self) -> ShardStore:
        """Return the store; what it holds is read when it is asked for."""
        return ShardStore(self._path)

    def save(self, data: ShardStream) -> None:
        """Write the shards as they come, then the index; remove what an older run left."""
        index_path = self._path / "index.json"
        self._drop_index_of_another(index_path, data.fingerprint)
        number = data.first_shard
        for shard in data.shards:
            metadata = {"fingerprint": data.fingerprint, "rows": shard.rows}
            write_tensors(shard_path(self._path, number), shard.tensors, metadata)
            number += 1
        self._remove_from(number)
        self._write_index(index_path, data.fingerprint, number)

    def _drop_index_of_another(self, index_path: Path, fingerprint: str) -> None:
        if (
            index_path.exists()
            and json.loads(index_path.read_text())["fingerprint"] != fingerprint
        ):
            index_path.unlink()

    def _remove_from(self, number: int) -> None:
        for path in self._path.glob("shard-*.safetensors"):
            if path >= shard_path(self._path, number):
                path.unlink()

    def _write_index(self, index_path: Path, fingerprint: str, num_shards: int) -> None:
        shards = []
        for number in range(num_shards):
            path = shard_path(self._path, number)
            shards.append(
                {"name": path.name, DIGEST_KEY: read_header(path)[0][DIGEST_KEY]}
            )
        with atomic_path(index_path) as temporary:
            temporary.write_text(
                json.dumps({"fingerprint": fingerprint, "shards": shards})
            )

    def _exists(self) -> bool:
        return ShardStore(self._path).complete

    def _describe(self) -> dict[str, Any]:
        return {"path": str(self._path)}
