"""The weights of several checkpoints as one matrix that stays on disk, verified once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lct_pipeline.core.linear_combination import WeightLayout, WeightMatrix
from lct_pipeline.datasets.checkpoints import CheckpointStore
from lct_pipeline.datasets.tensors import read_header
from lct_pipeline.errors import DataError
from lct_pipeline.progress import track


def checkpoint_matrix(
    store: CheckpointStore, names: Sequence[str], digests: Sequence[str]
) -> tuple[WeightMatrix, WeightLayout]:
    """Return the flat weights of K checkpoints, which stay on disk, and how tensors lie in them.

    The floating-point data of a checkpoint file are one flat vector: each row is a memory map of a
    file, nothing is copied, and memory does not grow with K.

    Args:
        store: Has the checkpoints.
        names: Which of them, K.
        digests: What the catalog says they are.

    Raises:
        DataError: A checkpoint is damaged, has other tensors than the first, another type than
            float32, or values that are not finite; names the file and the tensor.
    """
    shapes = _shapes(store.path(names[0]))
    constants = _constants(_verified(store, names, digests))
    matrix = WeightMatrix([_flat(store.path(name)) for name in names])
    return matrix, WeightLayout(shapes, constants)


def _verified(
    store: CheckpointStore, names: Sequence[str], digests: Sequence[str]
) -> Iterator[dict[str, Tensor]]:
    """Yield the tensors of each checkpoint, one at a time, after all checks."""
    rows = list(zip(names, digests, strict=True))
    expected = _kinds(store.path(names[0]))
    for name, digest in track(rows, "verify checkpoints", "checkpoint"):
        path = store.path(name)
        tensors = store.read(name, digest).tensors
        _check_kinds(path, expected)
        _check_finite(path, tensors)
        yield tensors


def _entries(path: Path) -> dict[str, Any]:
    """Return the header's entries in the order of the data; floats have to be float32."""
    entries = read_header(path)[1]
    for name, entry in entries.items():
        dtype = entry["dtype"]
        if dtype.startswith(("F", "BF")) and dtype != "F32":
            raise DataError(
                f"{path}: tensor {name!r} is {dtype}; only float32 can be combined: rounding is "
                "multiplied by the sum of |alpha|. `kedro run --pipeline=catalog` converts."
            )
    return dict(sorted(entries.items(), key=lambda item: item[1]["data_offsets"]))


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the floating-point tensors by name, in the order of the data."""
    shapes = {
        name: tuple(entry["shape"])
        for name, entry in _entries(path).items()
        if entry["dtype"] == "F32"
    }
    if not shapes:
        raise DataError(
            f"{path} has no floating-point tensor: nothing can be combined."
        )
    return shapes


def _kinds(path: Path) -> dict[str, str]:
    """Return type and shape of all tensors by name."""
    return {
        name: f"{entry['dtype']} {tuple(entry['shape'])}"
        for name, entry in _entries(path).items()
    }


def _check_kinds(path: Path, expected: dict[str, str]) -> None:
    """Refuse a checkpoint of another network, naming the first tensor that differs."""
    found = _kinds(path)
    for name in [*expected, *found]:
        if expected.get(name) != found.get(name):
            raise DataError(
                f"{path} is of another network: tensor {name!r} is {found.get(name, 'missing')}, "
                f"expected {expected.get(name, 'none')}."
            )


def _check_finite(path: Path, tensors: dict[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise DataError(
                f"{path}: tensor {name!r} has values that are not finite, and a combination with "
                "them would have nothing else. Remove the file and catalog again: training had "
                "diverged there."
            )


def _constants(checkpoints: Iterable[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the tensors that are not combined, as the last checkpoint has them.

    These are integer buffers, and what is the same in all checkpoints.
    """
    first: dict[str, Tensor] = {}
    same: set[str] = set()
    for number, tensors in enumerate(checkpoints):
        if number == 0:
            first, same = tensors, set(tensors)
        same = {name for name in same if torch.equal(tensors[name], first[name])}
        last = tensors
    fixed = {name for name, tensor in last.items() if not tensor.is_floating_point()}
    return {name: last[name].clone() for name in last if name in same | fixed}


def _flat(path: Path) -> np.ndarray:
    """Return the float32 data of a file, which lie together, as one read-only map, ``(N,)``."""
    _, entries, offset = read_header(path)
    spans = [e["data_offsets"] for e in entries.values() if e["dtype"] == "F32"]
    start, end = min(s[0] for s in spans), max(s[1] for s in spans)
    assert end - start == sum(s[1] - s[0] for s in spans)  # safetensors sorts by type
    return np.memmap(path, np.float32, "r", offset + start, ((end - start) // 4,))
