"""Frechet distance of two sets of images, given their features, and its derivative.

A metric is three things: features (a model), statistics mu and cov (a mergeable reduction), and a
distance (a function of two pairs). All of it in float64 on the CPU. SciPy's LAPACK does what torch
has no function for: products that know of triangles and symmetry.

Sources: Dowson & Landau 1982 and Heusel et al. 2017 (the distance of two Gaussians).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from scipy.linalg import blas, lapack
from torch import Tensor

EPSILON = np.finfo(np.float64).eps
SMALLEST = 1e-9  # eigenvalues below so much of the largest count as 0


class FeatureStatistics(NamedTuple):
    """Mean ``(D,)`` and unbiased covariance ``(D, D)`` of features, float64, and their number."""

    mu: Tensor
    cov: Tensor
    num_images: int


class FeatureMoments:
    """Running mean and scatter matrix of features, mergeable (Chan et al. 1979).

    Args:
        num_features: D.
    """

    def __init__(self, num_features: int) -> None:
        self.num_images = 0
        self._mean = np.zeros(num_features)
        # the half on and below the diagonal; the other is not kept up
        self._scatter = np.zeros((num_features, num_features), order="F")

    @classmethod
    def of(cls, statistics: FeatureStatistics) -> FeatureMoments:
        """Return the reduction that has seen the images of stored statistics."""
        moments = cls(len(statistics.mu))
        moments.num_images = statistics.num_images
        moments._mean[:] = statistics.mu.numpy()
        moments._scatter[:] = statistics.cov.numpy() * (statistics.num_images - 1)
        return moments

    @classmethod
    def merged(cls, parts: Sequence[FeatureMoments]) -> FeatureMoments:
        """Return the reduction that has seen the images of all parts, which stay as they are."""
        total = cls(len(parts[0]._mean))
        for part in parts:
            total.merge(part)
        return total

    def update(self, features: Tensor) -> None:
        """Add a batch of features, ``(B, D)``, B >= 1."""
        rows = features.double().cpu().numpy()
        mean = rows.mean(0)
        # a last row moves what was seen before and the batch to their common mean
        shift = self._move(mean, len(rows))
        rows = np.concatenate([rows - mean, shift[None]])
        self._scatter = blas.dsyrk(
            1.0, rows.T, 1.0, self._scatter, lower=1, overwrite_c=1
        )

    def merge(self, other: FeatureMoments) -> None:
        """Add what another reduction has seen."""
        if other.num_images == 0:
            return
        shift = self._move(other._mean, other.num_images)
        self._scatter += other._scatter + np.outer(shift, shift)

    def _move(self, mean: np.ndarray, num_images: int) -> np.ndarray:
        """Count other images in, with their mean; return d, ``(D,)``: d d^T adds to the scatter."""
        total = self.num_images + num_images
        shift = mean - self._mean
        self._mean += shift * (num_images / total)
        scale = (self.num_images * num_images / total) ** 0.5
        self.num_images = total
        return scale * shift

    def statistics(self) -> FeatureStatistics:
        """Return mean and unbiased covariance.

        Raises:
            ValueError: With fewer than two images there is no covariance.
        """
        if self.num_images < 2:
            raise ValueError(
                f"feature statistics need at least 2 images, got {self.num_images}"
            )
        half = np.tril(self._scatter, -1)
        scatter = half + half.T
        np.fill_diagonal(scatter, self._scatter.diagonal())
        scatter /= self.num_images - 1
        mu = torch.from_numpy(self._mean.copy())
        return FeatureStatistics(mu, torch.from_numpy(scatter), self.num_images)


def feature_statistics(features: Tensor) -> FeatureStatistics:
    """Return the statistics of all features at once, ``(N, D)``."""
    moments = FeatureMoments(features.shape[1])
    if len(features):
        moments.update(features)
    return moments.statistics()


class CovarianceFactor(NamedTuple):
    """F, ``(D, r)``, with F F^T = C; lower triangular where C is positive definite.

    Products with it are symmetric; the half on and below the diagonal is all that counts.
    """

    matrix: Tensor
    is_triangular: bool

    def congruence(self, cov: Tensor) -> np.ndarray:
        """Return F^T C' F, ``(r, r)``, of another covariance C'."""
        F = self.matrix.numpy()
        if not self.is_triangular:
            return F.T @ cov.numpy() @ F
        product, info = lapack.dsygst(cov.numpy(), F, itype=2, lower=1)
        assert info == 0
        return product

    def gram(self, A: np.ndarray) -> np.ndarray:
        """Return A F F^T A^T, ``(N, N)``, of rows A, ``(N, D)``."""
        F = self.matrix.numpy()
        if self.is_triangular:
            rows = blas.dtrmm(1.0, F, A.T, lower=1, trans_a=1)
        else:
            rows = F.T @ A.T
        return blas.dsyrk(1.0, rows, trans=1, lower=1)


def covariance_factor(cov: Tensor) -> CovarianceFactor:
    """Return a factor of a covariance, ``(D, D)``, of which the lower half counts.

    A Cholesky factor where there is one. Else some eigenvalues are 0 or, after rounding to
    float32 for instance, below: the factor is of the others.
    """
    lower, info = lapack.dpotrf(cov.numpy(), lower=1)
    if info == 0:
        return CovarianceFactor(torch.from_numpy(lower), True)
    eigenvalues, vectors = np.linalg.eigh(cov.numpy())
    above = eigenvalues > len(eigenvalues) * EPSILON * eigenvalues[-1]
    above[-1] = True  # of images that are all the same too: BLAS has no empty matrices
    matrix = vectors[:, above] * np.sqrt(eigenvalues[above].clip(0))
    return CovarianceFactor(torch.from_numpy(matrix), False)


class FrechetReference:
    """What many sets are compared with: the factor of its covariance is found once.

    The squared distance is |mu - mu_r|^2 + tr(C) + tr(C_r) - 2 tr((C_r C)^(1/2)). With
    C_r = F F^T, the last trace is the sum of the square roots of the eigenvalues of F^T C F, which
    is symmetric, so the result is real, also for singular covariances.

    Args:
        statistics: Those of the reference.
    """

    def __init__(self, statistics: FeatureStatistics) -> None:
        self.statistics = statistics

    @cached_property
    def factor(self) -> CovarianceFactor:
        """Return a factor of the reference's covariance."""
        return covariance_factor(self.statistics.cov)

    def distance(self, other: FeatureStatistics) -> float:
        """Return the squared Frechet distance to statistics, by matrices of ``(D, D)``."""
        product = self.factor.congruence(other.cov)
        return self._distance(
            other.mu, other.cov.trace().item(), product, other.num_images
        )

    def distance_of_features(self, features: Tensor) -> float:
        """Return the squared Frechet distance to features, ``(N, D)``, by the cheaper way.

        With A the centred features over (N - 1)^(1/2), C is A^T A, and A F F^T A^T, ``(N, N)``,
        has the eigenvalues of C_r C that are not zero: smaller matrices where N < D.

        Raises:
            ValueError: There are fewer than two images.
        """
        num_images, num_features = features.shape
        if num_images < 2 or num_images >= num_features:
            return self.distance(feature_statistics(features))
        features = features.double().cpu()
        mu = features.mean(0)
        A = ((features - mu) / (num_images - 1) ** 0.5).numpy()
        return self._distance(mu, np.vdot(A, A), self.factor.gram(A), num_images)

    def _distance(
        self, mu: Tensor, trace: float, product: np.ndarray, num_images: int
    ) -> float:
        """Return the squared distance.

        Args:
            mu: Mean of the other set, ``(D,)``.
            trace: Trace of its covariance.
            product: Symmetric, with the eigenvalues of the product of both covariances.
            num_images: Number of images of the other set.
        """
        rank = min(num_images, self.statistics.num_images) - 1
        cross = _root_trace(product, rank)
        shift = (mu - self.statistics.mu).square().sum().item()
        squared = shift + trace + self.statistics.cov.trace().item() - 2 * cross
        return max(0.0, squared)


def _root_trace(product: np.ndarray, rank: int) -> float:
    """Return the sum of the square roots of the eigenvalues, of which ``rank`` are not 0 at most.

    Rounding makes a few eps of an eigenvalue of 0, and its root would be a hundred million times
    as large: where N images leave D - N + 1 of them at 0, these errors would add up.
    """
    eigenvalues = np.linalg.eigvalsh(product).clip(0)
    beyond = eigenvalues[: max(0, len(eigenvalues) - rank)]
    beyond[beyond <= len(eigenvalues) * EPSILON * eigenvalues.max(initial=0)] = 0
    return float(np.sqrt(eigenvalues).sum())


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """Return the squared Frechet distance of two Gaussians; see :class:`FrechetReference`."""
    return FrechetReference(a).distance(b)


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
