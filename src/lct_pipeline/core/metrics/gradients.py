"""Derivatives of the Frechet and the kernel distance by the generated features.

They are written out, because the square root of a covariance of few images has eigenvalues near 0,
where a derivative that follows each operation is not finite.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lct_pipeline.core.metrics.frechet import FrechetReference

SMALLEST = 1e-9  # eigenvalues below so much of the largest count as 0


def frechet_gradient(reference: FrechetReference, features: Tensor) -> Tensor:
    """Return the derivative of the squared Frechet distance by each feature, ``(N, D)``, float64.

    With C_r = F F^T and M = F^T C F the derivative by C is I - F M^(-1/2) F^T, that by mu is
    2 (mu - mu_r); mu and C are those of the features. The inverse is taken where M is not 0.

    Args:
        reference: What the features are compared with.
        features: ``(N, D)``, N >= 2.
    """
    features = features.double().cpu()
    num_images, num_features = features.shape
    mu = features.mean(0)
    centred = features - mu
    F = reference.factor.matrix
    M = F.T @ (centred.T @ centred / (num_images - 1)) @ F
    eigenvalues, vectors = torch.linalg.eigh(M)
    nonzero = eigenvalues > SMALLEST * eigenvalues[-1]
    inverse = torch.where(nonzero, eigenvalues.clamp_min(1e-300).rsqrt(), 0.0)
    by_cov = torch.eye(num_features, dtype=torch.float64)
    by_cov -= F @ (vectors * inverse) @ vectors.T @ F.T
    by_mu = 2 * (mu - reference.statistics.mu)
    return by_mu / num_images + 2 / (num_images - 1) * centred @ by_cov


def kernel_gradient(features: Tensor, reference: Tensor) -> Tensor:
    """Return the derivative of the kernel distance by each feature, ``(N, D)``, float64.

    The derivative of k(a, b) = (a . b / D + 1)^3 by a is 3 (a . b / D + 1)^2 b / D.

    Args:
        features: Those of generated images, ``(N, D)``, N >= 2.
        reference: Those of real images, ``(M, D)``.
    """
    x, y = features.double().cpu(), reference.double().cpu()
    num_images, num_features = x.shape

    def slope(a: Tensor, b: Tensor) -> Tensor:
        return 3 / num_features * (a @ b.T / num_features + 1) ** 2

    within = slope(x, x).fill_diagonal_(0) @ x / (num_images * (num_images - 1))
    between = slope(x, y) @ y / (num_images * len(y))
    return 2 * within - 2 * between
