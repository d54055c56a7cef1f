"""Mini-batch optimal-transport coupling of latents and noise (sLCT section 4.4).

Source: the hard assignment of the authors' code, which is the exact plan of
Pooladian et al. 2023 and Tong et al. 2024 for equal batches.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lct_pipeline.core.preconditioning import level_type

# of network simplex, which ends by itself: POT's own 100,000 end it too early above 1,500 samples
MOST_ITERATIONS = 10**12


def squared_distances(x: Tensor, eps: Tensor) -> Tensor:
    """Return the cost matrix M of squared Euclidean distances, ``(B, B)``, float64."""
    a, b = (v.flatten(1).to(level_type(v.device)) for v in (x, eps))
    M = a.square().sum(1)[:, None] + b.square().sum(1)[None, :] - 2 * a @ b.T
    return M.clamp_min_(0)


def optimal_transport_coupling(
    x: Tensor, eps: Tensor, labels: Tensor | None = None
) -> Tensor:
    """Reorder the noise so that the pairs (x[j], eps[j]) have the least total squared distance.

    With labels, noise is exchanged among samples of one class only. Over the whole batch the plan
    would give each class the noise that lies near it: a class would be trained on a part of the
    prior and sampled from all of it (arXiv 2503.10636).

    Args:
        x: Normalised latents, ``(B, C, H, W)``.
        eps: Unit noise, ``(B, C, H, W)``.
        labels: Classes, ``(B,)``; None couples the whole batch.

    Returns:
        ``eps`` in coupled order, same shape and device.
    """
    M = squared_distances(x, eps).cpu().numpy()
    order = np.arange(len(x))
    for members in _classes(labels, len(x)):
        order[members] = members[assignment(M[np.ix_(members, members)])]
    return eps[torch.from_numpy(order).to(eps.device)]


def _classes(labels: Tensor | None, size: int) -> list[np.ndarray]:
    """Return the positions of each class of two samples or more; one alone has no choice."""
    if labels is None:
        groups = [np.arange(size)]
    else:
        classes = labels.cpu().numpy()
        groups = [np.flatnonzero(classes == label) for label in np.unique(classes)]
    return [members for members in groups if len(members) > 1]


def assignment(M: np.ndarray) -> np.ndarray:
    """Return the permutation j(i) with the least sum of M[i, j(i)], from M of ``(B, B)``.

    The plan between two uniform measures on B points each is a permutation divided by B, so its
    largest entry per row is the assignment. Solved exactly by network simplex, on the CPU.

    Raises:
        ArithmeticError: The solver ended without the optimum.
    """
    import ot  # takes seconds

    uniform = np.full(len(M), 1 / len(M))
    plan, log = ot.emd(
        *(uniform, uniform, M / M.max()),
        numItermax=MOST_ITERATIONS,
        numThreads=1,
        log=True,
    )
    if log["warning"] is not None:
        raise ArithmeticError(f"the optimal transport was not found: {log['warning']}")
    return plan.argmax(1)
