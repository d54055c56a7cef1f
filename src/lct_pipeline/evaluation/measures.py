"""From feature sets to rows: every figure of a model with how it was made."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from torch import Tensor

from lct_pipeline.core.metrics.feature_sets import FeatureSet
from lct_pipeline.core.metrics.frechet import FeatureMoments
from lct_pipeline.core.metrics.kernel import kernel_distance
from lct_pipeline.core.metrics.manifolds import manifold_metrics
from lct_pipeline.core.metrics.size_bias import (
    Extrapolation,
    distance_by_size,
    extrapolate,
)
from lct_pipeline.core.randomness import derived_generator
from lct_pipeline.core.sample_quality import random_subset
from lct_pipeline.evaluation.judges import Judge, Reference
from lct_pipeline.evaluation.protocol import (
    ImageFormat,
    Protocol,
    library_versions,
)


@dataclass(frozen=True)
class Figure:
    """A figure: its mean over seeds, standard deviation over them, and error of one of them.

    ``by_seed`` has those of each seed, so that models can be compared on common noise.
    """

    value: float
    std: float | None = None
    standard_error: float | None = None
    by_seed: list[float] | None = None


def rows_of(
    about: dict[str, Any],
    sets: list[FeatureSet],
    judge: Judge,
    image_format: ImageFormat,
    seeds: list[int],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows of a model and plan by one judge, and its distances by number of images.

    Args:
        about: Model and plan.
        sets: What was generated, a set for each seed.
        judge: Its extractor made the sets.
        image_format: How the images were stored.
        seeds: Of the noise.
    """
    rows, points = [], []
    for reference in judge.references:
        protocol = _protocol(judge, reference, image_format, sets[0])
        made = {**protocol.columns(), "seeds": seeds, "versions": library_versions()}
        curve = _curve(sets, reference)
        figures = {
            **_frechet(sets, judge, reference, curve),
            **_of_features(sets, judge, reference),
            **_class_score(sets, judge),
        }
        for metric, figure in figures.items():
            rows.append({**about, "metric": metric, **vars(figure), **made})
        points += [
            {**about, "metric": judge.extractor.frechet_name, **point, **made}
            for point in curve["points"]
        ]
    return rows, points


def _protocol(
    judge: Judge, reference: Reference, image_format: ImageFormat, generated: FeatureSet
) -> Protocol:
    return Protocol(
        extractor=judge.extractor.name,
        extractor_digest=judge.extractor.digest,
        resize=judge.extractor.resize,
        quantisation=image_format.quantisation,
        file_format=image_format.file_format,
        reference=reference.title,
        reference_digest=reference.digest,
        num_generated=generated.num_images,
        num_real=reference.num_images,
        kept_generated=len(generated.kept),
        kept_real=0 if reference.features is None else len(reference.features),
    )


def _curve(sets: list[FeatureSet], reference: Reference) -> dict[str, Any]:
    """Return the distance at growing numbers of images, and what it tends to.

    What it tends to is left out where blocks have fewer images than features: the line would be
    nothing like the curve.
    """
    blocks = [block for some in sets for block in some.blocks]
    if len(blocks) < 2:
        return {"points": [], "infinity": math.nan}
    points = distance_by_size(blocks, reference.frechet)
    line = Extrapolation(math.nan, math.nan)
    if points[0].num_images >= sets[0].kept.shape[1]:
        line = extrapolate(points)
    rows = [{**point._asdict(), **line._asdict()} for point in points]
    return {"points": rows, "infinity": line.infinity}


def _frechet(
    sets: list[FeatureSet], judge: Judge, reference: Reference, curve: dict[str, Any]
) -> dict[str, Figure]:
    name = judge.extractor.frechet_name
    distances = [reference.frechet.distance(some.statistics) for some in sets]
    found = {name: _over_seeds(distances)}
    if not math.isnan(curve["infinity"]):
        found[f"{name}_infinity"] = Figure(curve["infinity"])
    return found


def _of_features(
    sets: list[FeatureSet], judge: Judge, reference: Reference
) -> dict[str, Figure]:
    """Return what needs features themselves: of some images, where there are very many.

    Manifolds are of as many generated images as real ones, as in the papers: more of one kind
    would make its manifold larger.
    """
    if reference.features is None:
        return {}
    real = reference.features
    kernels = [kernel_distance(some.kept, real) for some in sets]
    count = min(len(real), *(len(some.kept) for some in sets))
    as_many = _some_of(real, count)
    manifolds = [manifold_metrics(as_many, some.kept[:count]) for some in sets]
    kernel = _over_seeds(
        [k.value for k in kernels], [k.standard_error for k in kernels]
    )
    by_name = {
        name: _over_seeds([getattr(found, name) for found in manifolds])
        for name in manifolds[0]._fields
    }
    return {judge.extractor.kernel_name: kernel, **by_name}


def _some_of(features: Tensor, count: int) -> Tensor:
    """Return ``count`` features at random: real images come in the order of their files."""
    generator = derived_generator(0, "as many real images", count)
    return features[random_subset(len(features), count, generator)]


def _class_score(sets: list[FeatureSet], judge: Judge) -> dict[str, Figure]:
    scores = [some.class_score.value for some in sets if some.class_score is not None]
    name = judge.extractor.score_name
    return {} if name is None or not scores else {name: _over_seeds(scores)}


def _over_seeds(values: list[float], errors: Iterable[float] = ()) -> Figure:
    known = list(errors)
    return Figure(
        fmean(values),
        stdev(values) if len(values) > 1 else None,
        fmean(known) if known else None,
        values,
    )


def control_set(held_out: Reference) -> FeatureSet:
    """Return held-out real images as if they had been generated."""
    assert held_out.features is not None  # a split is always measured
    moments = FeatureMoments.of(held_out.frechet.statistics)
    return FeatureSet([moments], held_out.features, None)
