"""One shard of a series of records: read by record or mapped, and verified once in a process."""

from __future__ import annotations

import math
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lct_pipeline.datasets.tensors import DIGEST_KEY, content_digest, read_header
from lct_pipeline.errors import DataError

_NUMPY_TYPES = {"U8": np.uint8, "F16": np.float16, "F32": np.float32, "I64": np.int64}
_VERIFIED: set[tuple[Path, int, int, int]] = set()  # files, as they were when verified


class ShardFile:
    """One shard on disk; its content is verified when it is first read in a process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        metadata, self._entries, self._offset = read_header(path)
        self.digest: str = metadata[DIGEST_KEY]
        self._is_verified = False

    @property
    def num_items(self) -> int:
        """Number of records, the length of every tensor."""
        return next(iter(self._entries.values()))["shape"][0]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tensors."""
        return tuple(self._entries)

    def record_shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of one record of the tensor ``name``."""
        return self._form(name)[1][1:]

    @property
    def record_bytes(self) -> int:
        """Bytes of one record, all tensors together."""
        forms = [self._form(name) for name in self._entries]
        return sum(dtype.itemsize * math.prod(shape[1:]) for dtype, shape in forms)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows that were written with the tensors; read from the file each time."""
        return read_header(self.path)[0]["rows"]

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The tensors as maps of the file, which last as long as the caller holds them.

        Raises:
            DataError: The content does not have the digest that was written with it.
        """
        self._verify()
        return self._maps()

    def read(self, name: str, places: np.ndarray) -> np.ndarray:
        """Return the records at ``places``, ``(B,)``, of the tensor ``name``, in that order.

        Raises:
            DataError: The content does not have the digest that was written with it.
        """
        self._verify()
        dtype, shape = self._form(name)
        out = np.empty((len(places), *shape[1:]), dtype)
        content = out.reshape(-1).view(np.uint8).data
        start = self._offset + self._entries[name]["data_offsets"][0]
        num_bytes = out[0].nbytes
        with self.path.open("rb", buffering=0) as file:
            for first, last, place in _runs(places):
                file.seek(start + place * num_bytes)
                _fill(content[first * num_bytes : last * num_bytes], file)
        return out

    def _verify(self) -> None:
        """Compare the content with its digest, once in a process for a file as it is."""
        if self._is_verified:
            return
        status = self.path.stat()
        state = (self.path, status.st_ino, status.st_mtime_ns, status.st_size)
        if state not in _VERIFIED and self._digest() != self.digest:
            raise DataError(
                f"{self.path} was altered after it was written. Remove it and run again."
            )
        _VERIFIED.add(state)
        self._is_verified = True

    def _digest(self) -> str:
        about = {k: v for k, v in read_header(self.path)[0].items() if k != DIGEST_KEY}
        content = {name: torch.from_numpy(a) for name, a in self._maps().items()}
        return content_digest(content, about)

    def _maps(self) -> dict[str, np.ndarray]:
        return {name: self._map(name) for name in self._entries}

    def _map(self, name: str) -> np.ndarray:
        dtype, shape = self._form(name)
        if 0 in shape:
            return np.empty(shape, dtype)
        start = self._offset + self._entries[name]["data_offsets"][0]
        # mode "c": pages are private copies, so torch may wrap them and the file stays as it is
        return np.memmap(self.path, dtype, "c", start, shape)

    def _form(self, name: str) -> tuple[np.dtype, tuple[int, ...]]:
        """Return type and shape of a tensor."""
        entry = self._entries[name]
        return np.dtype(_NUMPY_TYPES[entry["dtype"]]), tuple(entry["shape"])


def _runs(places: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Yield where runs of places that follow each other begin, end, and their first place."""
    ends = [*(np.flatnonzero(np.diff(places) != 1) + 1).tolist(), len(places)]
    begins = [0, *ends[:-1]]
    yield from zip(begins, ends, places[begins].tolist(), strict=True)


def _fill(part: memoryview, file: FileIO) -> None:
    """Read until ``part`` is full: a system may give 2 GiB at most at a time."""
    while part:
        count = file.readinto(part)
        if not count:
            raise DataError(f"{file.name} was cut short while it was read.")
        part = part[count:]
