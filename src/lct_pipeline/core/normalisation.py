"""Normalisation of latents to mean 0 and standard deviation sigma_data at every position.

Source: the authors' statistics of sLCT, one mean and one standard deviation for each of the
``(C, H, W)`` positions, over the training images.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

MIN_STD = 1e-6  # a position that never changes is left at 0


@dataclass(frozen=True)
class LatentNormalisation:
    """Mean and standard deviation per position, ``(C, H, W)``, float32."""

    mean: Tensor
    std: Tensor
    sigma_data: float

    def normalise(self, z: Tensor) -> Tensor:
        """Map raw latents ``(B, C, H, W)`` to x = sigma_data (z - mean) / std."""
        return (z - self.mean) / self.std.clamp_min(MIN_STD) * self.sigma_data

    def denormalise(self, x: Tensor) -> Tensor:
        """Map normalised latents back to raw ones."""
        return x * (self.std.clamp_min(MIN_STD) / self.sigma_data) + self.mean

    def to(self, device: torch.device) -> LatentNormalisation:
        """Return the same normalisation on another device."""
        return LatentNormalisation(
            self.mean.to(device), self.std.to(device), self.sigma_data
        )


class PosteriorMoments:
    """Mean and variance of posterior samples at every position, as a reduction, float64.

    By the law of total variance the variance of a sample is that of the posterior means plus the
    mean of the posterior variances: exact, without drawing any sample.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.count = 0
        self.mean = torch.zeros(shape, dtype=torch.float64)
        # of deviations of the means
        self.squares = torch.zeros(shape, dtype=torch.float64)
        # sum of posterior variances
        self.variances = torch.zeros(shape, dtype=torch.float64)

    def update(self, means: Tensor, stds: Tensor) -> None:
        """Add a batch of posteriors, both ``(B, *shape)``, B >= 1 (Chan et al. 1979)."""
        num, means = len(means), means.double()
        total, mean = self.count + num, means.mean(0)
        shift, within = mean - self.mean, (means - mean).square().sum(0)
        self.squares += within + shift**2 * (self.count * num / total)
        self.mean += shift * (num / total)
        self.variances += stds.double().square().sum(0)
        self.count = total

    def normalisation(self, sigma_data: float) -> LatentNormalisation:
        """Return the normalisation to standard deviation ``sigma_data``.

        Raises:
            ValueError: Fewer than two images were seen.
        """
        if self.count < 2:
            raise ValueError(f"normalisation needs at least 2 images, got {self.count}")
        variance = self.squares / (self.count - 1) + self.variances / self.count
        return LatentNormalisation(
            self.mean.float(), variance.sqrt().float(), sigma_data
        )
