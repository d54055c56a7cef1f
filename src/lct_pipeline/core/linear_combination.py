"""Linear combination of saved checkpoints, in blocks over the flattened weights.

Source: Liu et al. 2024 (LCSC): theta(alpha) = sum_k alpha_k theta_k with sum_k alpha_k = 1,
negative coefficients allowed. Because they sum to one, what is the same in all checkpoints stays
the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class WeightLayout:
    """Order and shapes of the floating-point tensors of a state dict in a flat vector."""

    shapes: dict[str, tuple[int, ...]]

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> WeightLayout:
        """Return the layout of a state dict; integer buffers are left out."""
        return cls(
            {
                name: tuple(t.shape)
                for name, t in tensors.items()
                if t.is_floating_point()
            }
        )

    @property
    def num_weights(self) -> int:
        """Length N of the flat vector."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def flatten(self, tensors: Mapping[str, Tensor]) -> np.ndarray:
        """Return the tensors as one float32 vector, ``(N,)``.

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
        """Return the tensors of a flat vector, ``(N,)``."""
        flat = torch.from_numpy(np.ascontiguousarray(weights, dtype=np.float32))
        sizes = [math.prod(shape) for shape in self.shapes.values()]
        pieces = dict(zip(self.shapes, flat.split(sizes), strict=True))
        return {name: pieces[name].view(shape) for name, shape in self.shapes.items()}


def combine(matrix: Any, alphas: np.ndarray, *, block_size: int) -> np.ndarray:
    """Return P combinations of K checkpoints as one blocked matrix product.

    Args:
        matrix: Flat weights of shape ``(K, N)``, float32; may be a memory map.
        alphas: Coefficients of shape ``(P, K)``.
        block_size: Number of columns that are read at a time: memory is
            ``block_size * (K + P)`` values beside the result.

    Returns:
        Combined weights of shape ``(P, N)``, float32.
    """
    coefficients = torch.from_numpy(np.ascontiguousarray(alphas, dtype=np.float32))
    num_weights = matrix.shape[1]
    combined = torch.empty(len(alphas), num_weights)
    for start in range(0, num_weights, block_size):
        block = np.array(matrix[:, start : start + block_size], dtype=np.float32)
        columns = combined[:, start : start + block_size]
        columns.copy_(coefficients @ torch.from_numpy(block))
    return combined.numpy()
