"""The one way from images to values, whoever made the images and whatever they are measured for.

Selection, search, verification, evaluation and comparison differ in the split that they compare
with, in the noise and in the number of images, in nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any

import torch
from pandas import DataFrame
from torch import Tensor

from lct_pipeline.core.metrics.feature_sets import FeatureReducer, FeatureSet
from lct_pipeline.core.metrics.frechet import FeatureMoments
from lct_pipeline.core.metrics.neighbours import ManifoldMetrics
from lct_pipeline.core.metrics.size_bias import (
    Extrapolation,
    distance_by_size,
    extrapolate,
)
from lct_pipeline.datasets.results import EvaluationResult, EvaluationRow
from lct_pipeline.errors import MeasureError
from lct_pipeline.evaluation.feature_spaces import FeatureSpace, RealImages
from lct_pipeline.evaluation.generator import NO_PLAN, Subject
from lct_pipeline.evaluation.protocol import (
    CLEAN,
    ImageFormat,
    library_versions,
    protocol_columns,
)
from lct_pipeline.models.features.base import FeatureExtractor

NOT_KNOWN = {"std": None, "standard_error": None}


@dataclass(frozen=True)
class Measured:
    """Rows of an evaluation, and distances by the number of images."""

    rows: list[EvaluationRow] = field(default_factory=list)
    points: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def joined(cls, parts: Iterable[Measured]) -> Measured:
        """Return all rows and points in order."""
        found = cls()
        for part in parts:
            found.rows.extend(part.rows)
            found.points.extend(part.points)
        return found

    def of(self, about: dict[str, Any]) -> Measured:
        """Return the same of something else that makes the same images."""
        rows = [row.model_copy(update=about) for row in self.rows]
        return Measured(rows, [point | about for point in self.points])

    def result(self) -> EvaluationResult:
        """Return the rows as they are kept."""
        return EvaluationResult(rows=self.rows)

    def table(self) -> DataFrame:
        """Return a row for each value."""
        return DataFrame([row.model_dump() for row in self.rows])

    def by_size(self) -> DataFrame:
        """Return a row for each distance of a part of the images."""
        return DataFrame(self.points)


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
                    classify = space.extractor.classify if self.num_retained else None
                    reducer.update(features, classify and classify(features))
        return [reducer.result() for reducer in reducers]

    def _reducer(self, num_images: int, keep: Tensor | None) -> FeatureReducer:
        if self.num_retained is None:
            return FeatureReducer(torch.ones(num_images).bool(), num_blocks=0)
        first = torch.arange(num_images) < self.num_retained
        num_blocks = min(self.num_blocks, num_images // 2)
        return FeatureReducer(first if keep is None else keep, num_blocks=num_blocks)

    def measure(self, subject: Subject, seeds: Sequence[int]) -> Measured:
        """Return the rows of what makes images: means over seeds of noise, in each space.

        Raises:
            MeasureError: Its images are not finite.
        """
        count = subject.num_images
        try:
            by_seed = [self.features(subject.batches(seed=n), count) for n in seeds]
        except MeasureError as error:
            about = "{model}, {nfe} evaluations".format(**subject.about)
            raise MeasureError(f"{about}: {error}") from error
        return self.measured(subject.about, by_seed, list(seeds))

    def measure_held_out(self) -> Measured:
        """Return the rows of real images that are not the reference, as if generated."""
        sets = []
        for held_out in (space.held_out for space in self.spaces):
            assert held_out is not None  # the validation split is always measured
            assert held_out.features is not None
            moments = [FeatureMoments.of(held_out.frechet.statistics)]
            sets.append(FeatureSet(moments, held_out.features, None))
        about = {"model": "real_validation_images", **NO_PLAN}
        return self.measured(about, [sets], [])

    def measured(
        self, about: dict[str, Any], by_seed: list[list[FeatureSet]], seeds: list[int]
    ) -> Measured:
        """Return the rows of a model and plan, and its distances by number of images.

        Args:
            about: Model and plan.
            by_seed: What each extractor found in what was generated, for each seed.
            seeds: Of the noise.
        """
        found = Measured()
        for space, *sets in zip(self.spaces, *by_seed, strict=True):
            for reference in space.references:
                made = self._protocol(space.extractor, reference, sets[0])
                made |= {"seeds": seeds, "versions": library_versions()}
                points = _points(sets, reference)
                values = _values(sets, space.extractor, reference, points)
                found.rows.extend(
                    EvaluationRow(**about, metric=metric, **value, **made)
                    for metric, value in values.items()
                )
                of_points = {**about, "metric": space.extractor.frechet_name}
                found.points.extend({**of_points, **point, **made} for point in points)
        return found

    def _protocol(
        self, extractor: FeatureExtractor, real: RealImages, generated: FeatureSet
    ) -> dict[str, Any]:
        return protocol_columns(
            extractor=extractor.name,
            extractor_digest=extractor.digest,
            resize=extractor.resize,
            quantisation=self.image_format.quantisation,
            file_format=self.image_format.file_format,
            reference=real.title,
            reference_digest=real.digest,
            num_generated=generated.num_images,
            num_real=real.num_images,
            kept_generated=len(generated.kept),
            kept_real=0 if real.features is None else len(real.features),
        )


def _points(sets: list[FeatureSet], reference: RealImages) -> list[dict[str, Any]]:
    """Return the distance at growing numbers of images, and what it tends to.

    What it tends to is not known where blocks have fewer images than features: the line would be
    nothing like the curve.
    """
    blocks = [block for some in sets for block in some.blocks]
    if len(blocks) < 2:
        return []
    points = distance_by_size(blocks, reference.frechet)
    line = Extrapolation(math.nan, math.nan)
    if points[0].num_images >= sets[0].kept.shape[1]:
        line = extrapolate(points)
    return [{**point._asdict(), **line._asdict()} for point in points]


def _values(
    sets: list[FeatureSet],
    extractor: FeatureExtractor,
    reference: RealImages,
    points: list[dict[str, Any]],
) -> dict[str, dict[str, Any]]:
    """Return the columns of each value by its metric.

    Kernel distance, precision and so on need features themselves: of some images, where there are
    very many.
    """
    name = extractor.frechet_name
    found = {name: _over_seeds([reference.frechet_distance(some) for some in sets])}
    if points and not math.isnan(points[0]["infinity"]):
        found[f"{name}_infinity"] = {"value": points[0]["infinity"], **NOT_KNOWN}
    if reference.features is not None:
        kernels = [reference.kernel_distance(some) for some in sets]
        found[extractor.kernel_name] = _over_seeds([k.value for k in kernels]) | {
            "standard_error": fmean(kernel.standard_error for kernel in kernels),
            "subset_std": fmean(kernel.subset_std for kernel in kernels),
        }
        manifolds = filter(None, map(reference.manifold_metrics, sets))
        by_metric = zip(*manifolds, strict=True)
        for metric, values in zip(ManifoldMetrics._fields, by_metric, strict=False):
            found[metric] = _over_seeds(values)
    scores = [some.class_score.value for some in sets if some.class_score is not None]
    return found | ({extractor.score_name: _over_seeds(scores)} if scores else {})


def _over_seeds(values: Sequence[float]) -> dict[str, Any]:
    """Return the mean over seeds, the standard deviation over them, and each of them."""
    std = stdev(values) if len(values) > 1 else None
    by_seed = {"value": fmean(values), "by_seed": list(values)}
    return NOT_KNOWN | by_seed | {"std": std}
