"""Distances between two sets of images, given their features.

A metric is three things: features (a model), statistics mu and cov (a mergeable reduction), and a
distance (a function of two pairs). All of it in float64.

Sources: Dowson & Landau 1982 and Heusel et al. 2017 (Frechet distance of two Gaussians);
Binkowski et al. 2018 (kernel distance, unbiased, cubic polynomial kernel).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class FeatureStatistics(NamedTuple):
    """Mean ``(D,)`` and unbiased covariance ``(D, D)`` of features, float64, and their number."""

    mu: Tensor
    cov: Tensor
    num_images: int


class FeatureMoments:
    """Running mean and scatter matrix of features, mergeable (Chan et al. 1979)."""

    def __init__(self, num_features: int) -> None:
        self.num_images = 0
        self.mean = torch.zeros(num_features, dtype=torch.float64)
        self.scatter = torch.zeros(num_features, num_features, dtype=torch.float64)

    def update(self, features: Tensor) -> None:
        """Add a batch of features, ``(B, D)``."""
        batch = FeatureMoments(features.shape[1])
        features = features.double().cpu()
        batch.num_images = len(features)
        batch.mean = features.mean(0)
        centred = features - batch.mean
        batch.scatter = centred.T @ centred
        self.merge(batch)

    def merge(self, other: FeatureMoments) -> None:
        """Add what another reduction has seen."""
        total = self.num_images + other.num_images
        if total == 0:
            return
        shift = other.mean - self.mean
        cross = self.num_images * other.num_images / total
        self.scatter += other.scatter + cross * torch.outer(shift, shift)
        self.mean += shift * (other.num_images / total)
        self.num_images = total

    def statistics(self) -> FeatureStatistics:
        """Return mean and unbiased covariance.

        Raises:
            ValueError: With fewer than two images there is no covariance.
        """
        if self.num_images < 2:
            raise ValueError(
                f"feature statistics need at least 2 images, got {self.num_images}"
            )
        return FeatureStatistics(
            self.mean.clone(), self.scatter / (self.num_images - 1), self.num_images
        )


def feature_statistics(features: Tensor) -> FeatureStatistics:
    """Return the statistics of all features at once, ``(N, D)``."""
    moments = FeatureMoments(features.shape[1])
    moments.update(features)
    return moments.statistics()


def symmetric_square_root(cov: Tensor) -> Tensor:
    """Return the symmetric square root of a positive semi-definite matrix."""
    eigenvalues, vectors = torch.linalg.eigh(cov)
    return (vectors * eigenvalues.clamp_min(0).sqrt()) @ vectors.T


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """Return |mu_a - mu_b|^2 + tr(C_a) + tr(C_b) - 2 tr((C_a C_b)^(1/2)).

    The last trace is the sum of the square roots of the eigenvalues of the symmetric matrix
    C_a^(1/2) C_b C_a^(1/2), so the result is real, also for singular covariances.
    """
    root = symmetric_square_root(a.cov)
    eigenvalues = torch.linalg.eigvalsh(root @ b.cov @ root)
    cross = eigenvalues.clamp_min(0).sqrt().sum()
    squared = (a.mu - b.mu).square().sum() + a.cov.trace() + b.cov.trace() - 2 * cross
    return max(0.0, squared.item())


def kernel_distance(x: Tensor, y: Tensor) -> float:
    """Return the unbiased squared MMD under k(a, b) = (a . b / D + 1)^3; may be below zero.

    Args:
        x: Features of one set, ``(N, D)``, N >= 2.
        y: Features of the other, ``(M, D)``, M >= 2.
    """
    x, y = x.double(), y.double()

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def mean_off_diagonal(k: Tensor) -> Tensor:
        return (k.sum() - k.trace()) / (len(k) * (len(k) - 1))

    within = mean_off_diagonal(kernel(x, x)) + mean_off_diagonal(kernel(y, y))
    return (within - 2 * kernel(x, y).mean()).item()
