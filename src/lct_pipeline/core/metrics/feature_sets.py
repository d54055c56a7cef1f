"""What is known of a set of images through one extractor, without its features being kept.

Moments of blocks of images, some features, and the Inception score: are generated images of clear
classes, and of all of them? The score is that of Salimans et al. 2016 (arXiv 1606.03498), section
4: exp(E_x KL(p(y | x) || p(y))), with p(y) the mean of p(y | x) over all images. Their own values
are means over ten splits of 50,000 images; of all images together, as here, the score is a little
higher.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lct_pipeline.core.metrics.frechet import (
    FeatureMoments,
    FeatureStatistics,
    feature_statistics,
)

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


@dataclass(frozen=True)
class FeatureSet:
    """Blocks of neighbouring images as moments, some features, and the class score.

    ``blocks`` have as many images, up to one; there are none where all features are kept and
    nothing was reduced. ``kept`` are features of some images, ``(K, D)``, float32;
    ``class_score`` is None where the extractor tells no classes.
    """

    blocks: list[FeatureMoments]
    kept: Tensor
    class_score: ClassScore | None

    @property
    def num_images(self) -> int:
        """Return the number of images that were seen."""
        return sum(block.num_images for block in self.blocks) or len(self.kept)

    @cached_property
    def statistics(self) -> FeatureStatistics:
        """Return mean and covariance of all images."""
        if not self.blocks:
            return feature_statistics(self.kept)
        return FeatureMoments.merged(self.blocks).statistics()


class FeatureReducer:
    """Reduces batches of features to a :class:`FeatureSet`; batches may straddle blocks.

    Args:
        keep: Which features to keep, bool, ``(N,)``; N is the number of images that will come.
        num_blocks: Number of blocks; 0 makes no moments, where all features are kept.

    Raises:
        ValueError: There are fewer than two images for each block, or nothing would be known of
            the images that are not kept.
    """

    def __init__(self, keep: Tensor, *, num_blocks: int) -> None:
        if len(keep) < 2 * num_blocks:
            raise ValueError(
                f"{num_blocks} blocks of features need at least {2 * num_blocks} images, "
                f"got {len(keep)}"
            )
        if num_blocks == 0 and not keep.all():
            raise ValueError("without blocks the features of all images are kept")
        self._keep, self._num_images = keep, 0
        # the first blocks are larger by one where the images do not divide into them
        parts = keep.tensor_split(max(1, num_blocks))
        self._block_of = torch.cat(
            [torch.full((len(part),), n) for n, part in enumerate(parts)]
        )
        self._reduces, self._blocks = num_blocks > 0, list[FeatureMoments]()
        self._kept: list[Tensor] = []
        self._class_score: ClassScore | None = None

    def update(self, features: Tensor, probabilities: Tensor | None = None) -> None:
        """Add the next images.

        Args:
            features: ``(B, D)``.
            probabilities: Of their classes, ``(B, K)``; None where the extractor tells none.

        Raises:
            ValueError: More images come than were announced.
        """
        start, self._num_images = self._num_images, self._num_images + len(features)
        if self._num_images > len(self._keep):
            raise ValueError(f"more than {len(self._keep)} images came")
        features = features.float().cpu()
        self._kept.append(features[self._keep[start : self._num_images]])
        places = self._block_of[start : self._num_images]
        for place in places.unique().tolist() if self._reduces else ():
            if place == len(self._blocks):
                self._blocks.append(FeatureMoments(features.shape[1]))
            self._blocks[place].update(features[places == place])
        if probabilities is not None:
            if self._class_score is None:
                self._class_score = ClassScore(probabilities.shape[1])
            self._class_score.update(probabilities)

    def result(self) -> FeatureSet:
        """Return what is known of all images.

        Raises:
            ValueError: Fewer images came than were announced.
        """
        if self._num_images != len(self._keep):
            raise ValueError(
                f"{len(self._keep)} images were announced, {self._num_images} came"
            )
        return FeatureSet(self._blocks, torch.cat(self._kept), self._class_score)
