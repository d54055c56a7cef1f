"""The one way from images to values, whoever made the images and whatever they are measured for.

Selection, search, verification, evaluation and comparison differ in the split that they compare
with, in the noise and in the number of images, in nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lct_pipeline.core.metrics.feature_sets import FeatureReducer, FeatureSet
from lct_pipeline.core.metrics.frechet import FeatureMoments
from lct_pipeline.evaluation.feature_spaces import FeatureSpace
from lct_pipeline.evaluation.measures import Measured, measured
from lct_pipeline.evaluation.models import NO_PLAN, Subject
from lct_pipeline.evaluation.protocol import CLEAN, ImageFormat


@dataclass(frozen=True)
class Evaluator:
    """Sees images through all extractors together: each is made once and seen by each of them.

    Attributes:
        spaces: Extractors with what they are compared with.
        image_format: What images are stored as before an extractor sees them.
        num_retained: Of how many images features are kept; None: of all, and neither moments nor
            class scores are made, which a search has no use for.
        num_blocks: In how many blocks moments are made.
    """

    spaces: Sequence[FeatureSpace]
    image_format: ImageFormat = CLEAN
    num_retained: int | None = None
    num_blocks: int = 1

    def features(
        self, batches: Iterable[Tensor], num_images: int, keep: Tensor | None = None
    ) -> list[FeatureSet]:
        """Return what each extractor finds in ``num_images`` images.

        Args:
            batches: Batches of uint8 images ``(B, 3, H, W)``, or of whatever the extractor takes.
            num_images: How many come.
            keep: Whose features are kept, bool, ``(num_images,)``; None: of the first.
        """
        reducers = [self._reducer(num_images, keep) for _ in self.spaces]
        with torch.no_grad():
            for images in batches:
                stored = self.image_format.store(images)
                for space, reducer in zip(self.spaces, reducers, strict=True):
                    features = space.extractor.extract(stored)
                    reducer.update(features, self._classes(space, features))
        return [reducer.result() for reducer in reducers]

    def _classes(self, space: FeatureSpace, features: Tensor) -> Tensor | None:
        classify = space.extractor.classify
        return classify(features) if classify and self.num_retained else None

    def _reducer(self, num_images: int, keep: Tensor | None) -> FeatureReducer:
        if self.num_retained is None:
            return FeatureReducer(torch.ones(num_images).bool(), num_blocks=0)
        first = torch.arange(num_images) < self.num_retained
        num_blocks = min(self.num_blocks, num_images // 2)
        return FeatureReducer(first if keep is None else keep, num_blocks=num_blocks)

    def measure(self, subject: Subject, seeds: Sequence[int]) -> Measured:
        """Return the rows of what makes images: means over seeds of noise, in each space."""
        count = subject.num_images
        by_seed = [self.features(subject.batches(seed=n), count) for n in seeds]
        return self._measured(subject.about, by_seed, list(seeds))

    def measure_held_out(self) -> Measured:
        """Return the rows of real images that are not the reference, as if generated."""
        sets = []
        for held_out in (space.held_out for space in self.spaces):
            assert held_out is not None  # the validation split is always measured
            assert held_out.features is not None
            moments = [FeatureMoments.of(held_out.frechet.statistics)]
            sets.append(FeatureSet(moments, held_out.features, None))
        about = {"model": "real_validation_images", **NO_PLAN}
        return self._measured(about, [sets], [])

    def _measured(
        self, about: dict[str, Any], by_seed: list[list[FeatureSet]], seeds: list[int]
    ) -> Measured:
        return Measured.joined(
            measured(about, list(sets), space, self.image_format, seeds)
            for space, sets in zip(self.spaces, zip(*by_seed, strict=True), strict=True)
        )
