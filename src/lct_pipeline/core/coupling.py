"""Mini-batch optimal-transport coupling of latents and noise (sLCT section 4.4).

Source: the hard assignment of the authors' code, which is the exact plan of
Pooladian et al. 2023 and Tong et al. 2024 for equal batches.
"""

from __future__ import annotations

import numpy as np
import ot
import torch
from torch import Tensor


def squared_distances(x: Tensor, eps: Tensor) -> Tensor:
    """Return the cost matrix M of squared Euclidean distances, ``(B, B)``, float64."""
    a, b = x.flatten(1).double(), eps.flatten(1).double()
    M = a.square().sum(1)[:, None] + b.square().sum(1)[None, :] - 2 * a @ b.T
    return M.clamp_min_(0)


def optimal_transport_coupling(x: Tensor, eps: Tensor) -> Tensor:
    """Reorder the noise so that the pairs (x[j], eps[j]) have the least total squared distance.

    The plan between two uniform measures on B points each is a permutation divided by B, so its
    largest entry per row is the assignment. Solved exactly by network simplex, on the CPU.

    Args:
        x: Normalised latents, ``(B, C, H, W)``.
        eps: Unit noise, ``(B, C, H, W)``.

    Returns:
        ``eps`` in coupled order, same shape and device.
    """
    M = squared_distances(x, eps).cpu().numpy()
    uniform = np.full(len(x), 1 / len(x))
    plan = ot.emd(uniform, uniform, M / M.max(), numThreads=1)
    return eps[torch.from_numpy(plan.argmax(1)).to(eps.device)]
