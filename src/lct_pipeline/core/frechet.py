"""Distances between two sets of images, given their features.

A metric is three things: features (a model), statistics mu and cov (a mergeable reduction), and a
distance (a function of two pairs). All of it in float64.

Sources: Dowson & Landau 1982 and Heusel et al. 2017 (Frechet distance of two Gaussians);
Binkowski et al. 2018 (kernel distance, unbiased, cubic polynomial kernel).
"""

from __future__ import annotations

from functools import cached_property
from itertools import product
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


class FrechetReference:
    """What many sets are compared with: the square root of its covariance is taken once.

    The squared distance is |mu - mu_r|^2 + tr(C) + tr(C_r) - 2 tr((C_r C)^(1/2)). The last trace
    is the sum of the square roots of the eigenvalues of C_r^(1/2) C C_r^(1/2), which is symmetric,
    so the result is real, also for singular covariances.

    Args:
        statistics: Those of the reference.
    """

    def __init__(self, statistics: FeatureStatistics) -> None:
        self.statistics = statistics

    @cached_property
    def root(self) -> Tensor:
        """Return the symmetric square root of the reference's covariance, ``(D, D)``."""
        return symmetric_square_root(self.statistics.cov)

    def distance(self, other: FeatureStatistics) -> float:
        """Return the squared Frechet distance to statistics, by matrices of ``(D, D)``."""
        matrix = self.root @ other.cov @ self.root
        return self._distance(other.mu, other.cov.trace(), matrix)

    def distance_of_features(self, features: Tensor) -> float:
        """Return the squared Frechet distance to features, ``(N, D)``, by the cheaper way.

        With A the centred features over (N - 1)^(1/2), C is A^T A, and A C_r A^T, ``(N, N)``, has
        the eigenvalues of C_r C that are not zero: smaller matrices where N < D.

        Raises:
            ValueError: There are fewer than two images.
        """
        num_images, num_features = features.shape
        if num_images < 2 or num_images >= num_features:
            return self.distance(feature_statistics(features))
        features = features.double().cpu()
        mu = features.mean(0)
        a = (features - mu) / (num_images - 1) ** 0.5
        return self._distance(mu, a.square().sum(), a @ self.statistics.cov @ a.T)

    def _distance(self, mu: Tensor, trace: Tensor, matrix: Tensor) -> float:
        """Return the squared distance.

        Args:
            mu: Mean of the other set, ``(D,)``.
            trace: Trace of its covariance.
            matrix: Symmetric, with the eigenvalues of the product of both covariances.
        """
        cross = torch.linalg.eigvalsh(matrix).clamp_min(0).sqrt().sum()
        shift = (mu - self.statistics.mu).square().sum()
        squared = shift + trace + self.statistics.cov.trace() - 2 * cross
        return max(0.0, squared.item())


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """Return the squared Frechet distance of two Gaussians; see :class:`FrechetReference`."""
    return FrechetReference(a).distance(b)


def kernel_distance(x: Tensor, y: Tensor, *, block_size: int = 1024) -> float:
    """Return the unbiased squared MMD under k(a, b) = (a . b / D + 1)^3; may be below zero.

    Args:
        x: Features of one set, ``(N, D)``, N >= 2.
        y: Features of the other, ``(M, D)``, M >= 2.
        block_size: The kernel is computed for so many images against as many: memory does not
            grow with the product N M.
    """
    x, y = x.double(), y.double()
    within = _mean_over_pairs(x, block_size) + _mean_over_pairs(y, block_size)
    between = _kernel_sum(x, y, block_size) / (len(x) * len(y))
    return (within - 2 * between).item()


def _mean_over_pairs(x: Tensor, block_size: int) -> Tensor:
    """Return the mean of the kernel over all pairs of different images."""
    diagonal = _cubic(x.square().sum(1), x.shape[1]).sum()
    return (_kernel_sum(x, x, block_size) - diagonal) / (len(x) * (len(x) - 1))


def _kernel_sum(x: Tensor, y: Tensor, block_size: int) -> Tensor:
    """Return the sum of the kernel over all pairs of ``(N, D)`` and ``(M, D)``."""
    blocks = product(x.split(block_size), y.split(block_size))
    return torch.stack([_cubic(a @ b.T, x.shape[1]).sum() for a, b in blocks]).sum()


def _cubic(products: Tensor, num_features: int) -> Tensor:
    """Return the cubic polynomial kernel of scalar products of features."""
    return (products / num_features + 1) ** 3
