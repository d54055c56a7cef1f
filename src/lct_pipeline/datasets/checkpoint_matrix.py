"""The weights of several checkpoints as one matrix that stays on disk, verified once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lct_pipeline.core.linear_combination import WeightLayout, WeightMatrix
from lct_pipeline.datasets.checkpoints import (
    CheckpointStore,
    check_same_tensors,
    tensor_types,
)
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
    constants = _constants(store, list(zip(names, digests, strict=True)))
    entries = read_header(store.path(names[0]))[1].items()
    in_file = sorted(entries, key=lambda item: item[1]["data_offsets"])
    shapes = {n: tuple(e["shape"]) for n, e in in_file if e["dtype"] == "F32"}
    matrix = WeightMatrix([_flat(store.path(name)) for name in names])
    return matrix, WeightLayout(shapes, constants)


def _constants(
    store: CheckpointStore, checkpoints: list[tuple[str, str]]
) -> dict[str, Tensor]:
    """Verify all checkpoints, one at a time; return the tensors that are not combined.

    These are integer buffers, as the last checkpoint has them, and what is the same in all.
    """
    first: dict[str, Tensor] = {}
    same: set[str] = set()
    for name, digest in track(checkpoints, "verify checkpoints", "checkpoint"):
        tensors = store.read(name, digest).tensors
        if not first:
            first, same = tensors, set(tensors)
        _check(store.path(name), tensors)
        check_same_tensors(store.path(name), tensors, tensor_types(first))
        same = {name for name in same if torch.equal(tensors[name], first[name])}
    return {
        name: tensor.clone()
        for name, tensor in tensors.items()
        if name in same or not tensor.is_floating_point()
    }


def _check(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse what cannot be combined."""
    floating = {n: t for n, t in tensors.items() if t.is_floating_point()}
    if not floating:
        raise DataError(
            f"{path} has no floating-point tensor: nothing can be combined."
        )
    for name, tensor in floating.items():
        if tensor.dtype != torch.float32:
            raise DataError(
                f"{path}: tensor {name!r} is {tensor.dtype}; only float32 can be combined: "
                "rounding is multiplied by the sum of |alpha|. `kedro run --pipeline=catalog` "
                "converts."
            )
        if not tensor.isfinite().all():
            raise DataError(
                f"{path}: tensor {name!r} has values that are not finite, and a combination with "
                "them would have nothing else. Remove the file and catalog again: training had "
                "diverged there."
            )


def _flat(path: Path) -> np.ndarray:
    """Return the float32 data of a file, which lie together, as one read-only map, ``(N,)``."""
    _, entries, offset = read_header(path)
    spans = [e["data_offsets"] for e in entries.values() if e["dtype"] == "F32"]
    start, end = min(s[0] for s in spans), max(s[1] for s in spans)
    assert end - start == sum(s[1] - s[0] for s in spans)  # safetensors sorts by type
    return np.memmap(path, np.float32, "r", offset + start, ((end - start) // 4,))
