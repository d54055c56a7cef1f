"""Inception score: are generated images of clear classes, and of all of them?

Source: Salimans et al. 2016 (arXiv 1606.03498), section 4: exp(E_x KL(p(y | x) || p(y))), with
p(y) the mean of p(y | x) over all images. Their own values are means over ten splits of 50,000
images; of all images together, as here, the score is a little higher.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

TOLERANCE = 1e-2  # of a sum of probabilities: that of bfloat16 is not quite 1


class ClassScore:
    """The Inception score as a reduction over class probabilities, float64.

    The mean divergence is the entropy of the mean less the mean of the entropies: a sum of each
    is all that is kept.

    Args:
        num_classes: K.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_images = 0
        self._probabilities = torch.zeros(num_classes, dtype=torch.float64)
        self._entropy = 0.0

    def update(self, probabilities: Tensor) -> None:
        """Add a batch of class probabilities, ``(B, K)``; a class may have none.

        Raises:
            ValueError: They are no probabilities: some are below 0 or a row has another sum.
        """
        p = probabilities.double().cpu()
        if not ((p >= 0).all() and ((p.sum(1) - 1).abs() <= TOLERANCE).all()):
            raise ValueError("class probabilities must be at least 0 and sum to 1")
        self.num_images += len(p)
        self._probabilities += p.sum(0)
        self._entropy += torch.special.entr(p).sum().item()

    @property
    def value(self) -> float:
        """Return the score, from 1 (no classes to be told apart) to the number of classes.

        Raises:
            ValueError: There are no images.
        """
        if self.num_images == 0:
            raise ValueError("the Inception score needs at least 1 image, got 0")
        mean = self._probabilities / self.num_images
        entropy_of_mean = torch.special.entr(mean).sum().item()
        return math.exp(entropy_of_mean - self._entropy / self.num_images)
