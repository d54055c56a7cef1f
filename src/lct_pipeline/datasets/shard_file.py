"""One shard of a series of records: read by record or whole, and verified once in a process.

Its rows, which say what is known of its records, are a Parquet file beside its tensors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from io import FileIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from lct_pipeline.datasets.files import atomic_path
from lct_pipeline.datasets.tensors import (
    DIGEST_KEY,
    content_digest,
    read_header,
    write_tensors,
)
from lct_pipeline.errors import DataError
from lct_pipeline.models.digests import file_digest

_NUMPY_TYPES = {"U8": np.uint8, "F16": np.float16, "F32": np.float32, "I64": np.int64}
_ROWS_KEY = "rows"  # digest of the file of the rows
_VERIFIED: set[tuple[Path, int, int, int]] = set()  # files, as they were when verified


def write_shard(
    path: Path, tensors: Mapping[str, Tensor], rows: pa.Table | None, fingerprint: str
) -> None:
    """Write a shard, which is there when its tensors are: its rows are written before."""
    about = {"fingerprint": fingerprint}
    if rows is not None:
        with atomic_path(_rows_path(path)) as temporary:
            pq.write_table(rows, temporary)
        about[_ROWS_KEY] = file_digest(_rows_path(path))
    write_tensors(path, tensors, about)


def _rows_path(path: Path) -> Path:
    return path.with_suffix(".parquet")


class ShardFile:
    """One shard on disk; its content is verified when it is first read in a process.

    Attributes:
        path: The file of its tensors; its rows are beside it.
        digest: Of tensors, rows and fingerprint.
        fingerprint: What it was made from.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._about, entries, offset = read_header(path)
        self.digest: str = self._about.pop(DIGEST_KEY)
        self.fingerprint: str = self._about["fingerprint"]
        self._tensors = {  # by name: type, shape and place in the file
            name: (
                np.dtype(_NUMPY_TYPES[entry["dtype"]]),
                tuple(entry["shape"]),
                offset + entry["data_offsets"][0],
            )
            for name, entry in entries.items()
        }
        self._is_verified = False

    @property
    def num_items(self) -> int:
        """Number of records, the length of every tensor."""
        return next(shape[0] for _, shape, _ in self._tensors.values())

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tensors."""
        return tuple(self._tensors)

    def record_shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of one record of the tensor ``name``."""
        return self._tensors[name][1][1:]

    @property
    def record_bytes(self) -> int:
        """Bytes of one record, all tensors together."""
        forms = self._tensors.values()
        return sum(dtype.itemsize * math.prod(shape[1:]) for dtype, shape, _ in forms)

    @property
    def rows(self) -> pa.Table:
        """The rows that were written with the tensors; read from their file each time.

        Raises:
            DataError: They are not those that were written.
        """
        path = _rows_path(self.path)
        if isinstance(self._about.get(_ROWS_KEY), list):  # it wrote them there
            raise DataError(
                f"{self.path.parent} is of an earlier version of the project. Move it away and run "
                "again: the images are read anew from their source."
            )
        if not path.exists() or file_digest(path) != self._about.get(_ROWS_KEY):
            raise self._altered(path)
        return pq.read_table(path)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All tensors, read from the file each time.

        Raises:
            DataError: The content does not have the digest that was written with it.
        """
        self._verify()
        return self._loaded()

    def read(self, name: str, places: np.ndarray) -> np.ndarray:
        """Return the records at ``places``, ``(B,)``, of the tensor ``name``, in that order.

        Raises:
            DataError: The content does not have the digest that was written with it.
        """
        self._verify()
        dtype, shape, start = self._tensors[name]
        out = np.empty((len(places), *shape[1:]), dtype)
        content = out.reshape(-1).view(np.uint8).data
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
        if state not in _VERIFIED:
            content = {n: torch.from_numpy(a) for n, a in self._loaded().items()}
            if content_digest(content, self._about) != self.digest:
                raise self._altered(self.path)
        _VERIFIED.add(state)
        self._is_verified = True

    def _altered(self, path: Path) -> DataError:
        return DataError(
            f"{path} was altered after it was written. Remove {self.path} and run again."
        )

    def _loaded(self) -> dict[str, np.ndarray]:
        arrays = {}
        for name, (dtype, shape, at) in self._tensors.items():
            values = np.fromfile(self.path, dtype, math.prod(shape), offset=at)
            arrays[name] = values.reshape(shape)
        return arrays


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
