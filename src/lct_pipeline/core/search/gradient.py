"""Gradient search: one backward pass gives the derivative of the fitness by all coefficients.

With theta(alpha) = sum_k alpha_k theta_k the derivative is dF/dalpha_k = <dF/dtheta, theta_k>.
Trainable weight averaging (Li et al. 2022) does the same for the loss of classifiers.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

import numpy as np

from lct_pipeline.core.search.base import Search, sum_zero_basis

BETAS, EPSILON = (0.9, 0.99), 1e-12


@dataclass(eq=False)
class GradientSearch(Search):
    """Adam (Kingma & Ba 2015) on z, alpha = alpha_0 + B z, with B directions of sum 0.

    The step size falls linearly to 0. A generation is one step of one candidate. Steps may be
    evaluated on new noise each: then no set of noise can be overfitted, and the fitness of a step
    is a sample. The search mean is the mean of the last half of the path (Polyak averaging).

    Attributes:
        step_size: First step size in z, over the square root of K. ``population`` is not used.
    """

    needs_gradients = True
    _: KW_ONLY
    step_size: float

    def __post_init__(self) -> None:
        super().__post_init__()
        K = self.initial.shape[1]
        self._basis = sum_zero_basis(K)
        self._path = [np.zeros(K - 1)]
        self._moments = np.zeros((2, K - 1))
        left = self.num_evaluations - 1 - len(self.initial)
        self._num_steps = max(1, int(left / self.cost + 1e-9))

    @property
    def mean(self) -> np.ndarray:
        """Return the mean of the last half of the path."""
        last_half = self._path[len(self._path) // 2 :]
        return self.start + self._basis @ np.mean(last_half, axis=0)

    def _propose(self, rng: np.random.Generator, num: int) -> np.ndarray:
        return (self.start + self._basis @ self._path[-1])[None]

    def _learn(
        self, alphas: np.ndarray, fitness: np.ndarray, gradients: np.ndarray | None
    ) -> None:
        if self.generation == 0:
            return
        assert gradients is not None
        self._path.append(self._path[-1] - self._step(gradients[0] @ self._basis))

    def _step(self, gradient: np.ndarray) -> np.ndarray:
        """Return Adam's step for dF/dz, ``(K - 1,)``."""
        number = len(self._path)
        powers = np.stack([gradient, gradient**2])
        decay = np.array(BETAS)[:, None]
        self._moments = decay * self._moments + (1 - decay) * powers
        mean, square = self._moments / (1 - decay**number)
        size = (
            self.step_size
            / np.sqrt(len(self.start))
            * (1 - (number - 1) / self._num_steps)
        )
        return size * mean / (np.sqrt(square) + EPSILON)
