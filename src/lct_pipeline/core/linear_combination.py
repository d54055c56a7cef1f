"""Linear combination of saved checkpoints, in blocks over the flattened weights.

Source: Liu et al. 2024 (LCSC): theta(alpha) = sum_k alpha_k theta_k with sum_k alpha_k = 1,
negative coefficients allowed. Because they sum to one, what is the same in all checkpoints stays
the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from lct_pipeline.core.ordered_map import ordered_map

TILE = (
    4096  # columns of one product, which then stay in the cache; blocks are whole tiles
)


class Vector(Protocol):
    """Flat weights of one checkpoint, ``(N,)`` float32, in memory or in its file."""

    def __len__(self) -> int:
        """Return N."""
        ...

    def __getitem__(self, part: slice, /) -> np.ndarray:
        """Return a part of them."""
        ...


class WeightMatrix:
    """Flat weights of K checkpoints, ``(K, N)`` float32.

    Args:
        vectors: K of them, each of N weights.
    """

    def __init__(self, vectors: Sequence[Vector]) -> None:
        self.vectors = vectors
        self.shape = (len(vectors), len(vectors[0]))

    def rows(self, numbers: Iterable[int]) -> WeightMatrix:
        """Return the matrix of some of the checkpoints."""
        return WeightMatrix([self.vectors[number] for number in numbers])

    def read(self, columns: slice, out: np.ndarray) -> None:
        """Put some columns of all rows into ``out``, ``(K, columns)``."""
        for target, row in zip(out, self.vectors, strict=True):
            target[:] = row[columns]


@dataclass(frozen=True)
class WeightLayout:
    """How the tensors of a state dict lie in a flat vector of N weights.

    Args:
        shapes: Shapes of the floating-point tensors by name, in their order.
        constants: Tensors that are copied instead of combined: integer buffers, and what is the
            same in all checkpoints, such as frozen weights, which a combination would give back
            only up to rounding.
    """

    shapes: Mapping[str, tuple[int, ...]]
    constants: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def num_weights(self) -> int:
        """Length N of the flat vector."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def flatten(self, tensors: Mapping[str, Tensor]) -> np.ndarray:
        """Return the tensors, or gradients of them, as one float32 vector, ``(N,)``.

        Raises:
            ValueError: A tensor is missing or has another shape; names it.
        """
        parts = []
        for name, shape in self.shapes.items():
            if name not in tensors:
                raise ValueError(f"tensor {name!r} is missing")
            if tuple(tensors[name].shape) != shape:
                found = tuple(tensors[name].shape)
                raise ValueError(f"tensor {name!r} has shape {found}, expected {shape}")
            parts.append(tensors[name].detach().cpu().float().reshape(-1).numpy())
        return np.concatenate(parts)

    def unflatten(self, weights: np.ndarray) -> dict[str, Tensor]:
        """Return the state dict of a flat vector, ``(N,)``; its tensors share the memory."""
        flat = torch.from_numpy(np.ascontiguousarray(weights, dtype=np.float32))
        sizes = [math.prod(shape) for shape in self.shapes.values()]
        pieces = dict(zip(self.shapes, flat.split(sizes), strict=True))
        combined = {
            name: pieces[name].view(shape) for name, shape in self.shapes.items()
        }
        return {**combined, **self.constants}


def combine(
    matrix: WeightMatrix,
    alphas: np.ndarray,
    *,
    block_size: int,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Return P combinations of K checkpoints.

    While a block is multiplied the next one is read. Each combination is summed in float64, by
    itself and over tiles at fixed places, and then rounded: it is the same, bit for bit, whatever
    the size of blocks and whatever it is computed beside. A one-hot alpha gives its checkpoint bit
    for bit, negative zeros included.

    Args:
        matrix: Flat weights of the checkpoints.
        alphas: Coefficients of shape ``(P, K)``, float64.
        block_size: Number of columns that are read at a time, in whole tiles: memory is
            ``2 * block_size * K`` values beside the result.
        out: Where to put the result; None makes room for it.

    Returns:
        Combined weights of shape ``(P, N)``, float32.
    """
    if out is None:
        out = np.empty((len(alphas), matrix.shape[1]), np.float32)
    used = [np.flatnonzero(alpha) for alpha in alphas]
    single = _one_hot_rows(alphas)
    for columns, tile in _tiles(matrix, block_size):
        for row, (alpha, own) in enumerate(zip(alphas, used, strict=True)):
            if row in single:
                out[row, columns] = tile[single[row]]
            else:
                weights = tile if len(own) == len(tile) else tile[own]
                out[row, columns] = torch.from_numpy(alpha[own])[None] @ weights
    return out


def project(matrix: WeightMatrix, vector: np.ndarray, *, block_size: int) -> np.ndarray:
    """Return the scalar products of K checkpoints with one vector.

    With the gradient of a loss by the combined weights this is its gradient by alpha.

    Args:
        matrix: Flat weights of the checkpoints.
        vector: ``(N,)``, float32.
        block_size: Number of columns that are read at a time, in whole tiles; the sums do not
            depend on it.

    Returns:
        Products of shape ``(K,)``, float64.
    """
    total = torch.zeros(matrix.shape[0], dtype=torch.float64)
    for columns, tile in _tiles(matrix, block_size):
        total += tile @ torch.from_numpy(vector[columns].astype(np.float64))
    return total.numpy()


def _tiles(matrix: WeightMatrix, block_size: int) -> Iterator[tuple[slice, Tensor]]:
    """Yield consecutive columns and their values, ``(K, TILE)``, float64, good until the next."""
    room = torch.empty(matrix.shape[0] * TILE, dtype=torch.float64)
    for columns, block in _blocks(matrix, max(1, block_size // TILE) * TILE):
        for start in range(0, block.shape[1], TILE):
            values = torch.from_numpy(block[:, start : start + TILE])
            tile = room[: values.numel()].view(values.shape)
            first = columns.start + start
            yield slice(first, first + tile.shape[1]), tile.copy_(values)


def _blocks(
    matrix: WeightMatrix, block_size: int
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield consecutive columns and their values, reading one block ahead."""
    K, num_weights = matrix.shape
    block_size = min(block_size, num_weights)
    parts = [
        slice(start, min(start + block_size, num_weights))
        for start in range(0, num_weights, block_size)
    ]
    buffers = [np.empty((K, block_size), np.float32) for _ in range(2)]

    def read(number: int) -> np.ndarray:
        columns = parts[number]
        block = buffers[number % 2][:, : columns.stop - columns.start]
        matrix.read(columns, block)
        return block

    with ThreadPoolExecutor(1, thread_name_prefix="read checkpoints") as reader:
        blocks = ordered_map(read, range(len(parts)), reader.submit, ahead=2)
        yield from zip(parts, blocks, strict=True)


def _one_hot_rows(alphas: np.ndarray) -> dict[int, int]:
    """Return which checkpoint each one-hot row of ``(P, K)`` stands for."""
    single = ((alphas == 0) | (alphas == 1)).all(1) & ((alphas == 1).sum(1) == 1)
    return {int(row): int(alphas[row].argmax()) for row in np.flatnonzero(single)}
