"""From coefficients to weights: combinations of cataloged checkpoints within bounded memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from pandas import DataFrame
from torch import Tensor

from lct_pipeline.core.linear_combination import combine, project
from lct_pipeline.datasets.checkpoint_matrix import checkpoint_matrix
from lct_pipeline.datasets.checkpoints import CheckpointStore
from lct_pipeline.errors import ParameterError

BLOCK_BYTES = 32 * 2**20  # of all checkpoints that are read at a time, twice


class CombinedWeights:
    """Combinations of K checkpoints, which stay on disk.

    Args:
        rows: Rows of the checkpoint index, K of them.
        checkpoints: The checkpoints; they are verified here, once.
        memory_mib: Bounds the combinations that are made together, and the blocks they are read in;
            None makes one at a time.

    Raises:
        DataError: A checkpoint is damaged or of another network.
        ParameterError: Not even one combination fits.
    """

    def __init__(
        self,
        rows: DataFrame,
        checkpoints: CheckpointStore,
        memory_mib: int | None = None,
    ) -> None:
        self.matrix, self.layout = checkpoint_matrix(
            checkpoints, list(rows["name"]), list(rows["digest"])
        )
        self.num_weights = self.layout.num_weights
        self.block_size = max(1, BLOCK_BYTES // (4 * len(rows)))
        self.group_size = 1 if memory_mib is None else self._fitting(memory_mib)

    def _fitting(self, memory_mib: int) -> int:
        """Return how many combinations fit beside the blocks."""
        size = (memory_mib * 2**20 - 2 * BLOCK_BYTES) // (4 * self.num_weights)
        if size < 1:
            need = (4 * self.num_weights + 2 * BLOCK_BYTES) // 2**20 + 1
            raise ParameterError(
                f"combination.memory_mib={memory_mib} does not hold one combination: give {need} "
                "or more."
            )
        return int(size)

    def combine(self, alphas: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Return combinations, ``(P, N)`` for alphas ``(P, K)``; P is ``group_size`` at most.

        Checkpoints that no alpha uses are not read.
        """
        used = np.flatnonzero(alphas.any(0))
        return combine(
            self.matrix.rows(used), alphas[:, used], block_size=self.block_size, out=out
        )

    def state_dict(self, alpha: np.ndarray) -> dict[str, Tensor]:
        """Return one combination, alpha ``(K,)``, as a state dict."""
        return self.layout.unflatten(self.combine(alpha[None])[0])

    def gradient_by_alpha(self, gradients: dict[str, Any], num: int) -> np.ndarray:
        """Return the derivative by the first ``num`` coefficients, from that by each weight."""
        by_weight = self.layout.flatten(gradients)
        first = self.matrix.rows(range(num))
        return project(first, by_weight, block_size=self.block_size)
