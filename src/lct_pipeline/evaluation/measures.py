"""From feature sets to rows: every value of a model with how it was made."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from lct_pipeline.core.metrics.feature_sets import FeatureSet
from lct_pipeline.core.metrics.size_bias import (
    Extrapolation,
    distance_by_size,
    extrapolate,
)
from lct_pipeline.datasets.results import EvaluationRow
from lct_pipeline.evaluation.feature_spaces import FeatureSpace, RealImages
from lct_pipeline.evaluation.protocol import (
    ImageFormat,
    library_versions,
    protocol_columns,
)


@dataclass(frozen=True)
class Value:
    """A value: its mean over seeds, standard deviation over them, and error of one of them.

    ``by_seed`` has those of each seed, so that models can be compared on common noise.
    """

    value: float
    std: float | None = None
    standard_error: float | None = None
    by_seed: list[float] | None = None


def rows_of(
    about: dict[str, Any],
    sets: list[FeatureSet],
    space: FeatureSpace,
    image_format: ImageFormat,
    seeds: list[int],
) -> tuple[list[EvaluationRow], list[dict[str, Any]]]:
    """Return the rows of a model and plan in one space, and its distances by number of images.

    Args:
        about: Model and plan.
        sets: What was generated, a set for each seed.
        space: Its extractor made the sets.
        image_format: How the images were stored.
        seeds: Of the noise.
    """
    rows, points = [], []
    for reference in space.references:
        protocol = _protocol(space, reference, image_format, sets[0])
        made = {**protocol, "seeds": seeds, "versions": library_versions()}
        curve = _curve(sets, reference)
        values = {
            **_frechet(sets, space, reference, curve),
            **_of_features(sets, space, reference),
            **_class_score(sets, space),
        }
        for metric, value in values.items():
            rows.append(EvaluationRow(**about, metric=metric, **vars(value), **made))
        points += [
            {**about, "metric": space.extractor.frechet_name, **point, **made}
            for point in curve["points"]
        ]
    return rows, points


def _protocol(
    space: FeatureSpace,
    reference: RealImages,
    image_format: ImageFormat,
    generated: FeatureSet,
) -> dict[str, Any]:
    return protocol_columns(
        extractor=space.extractor.name,
        extractor_digest=space.extractor.digest,
        resize=space.extractor.resize,
        quantisation=image_format.quantisation,
        file_format=image_format.file_format,
        reference=reference.title,
        reference_digest=reference.digest,
        num_generated=generated.num_images,
        num_real=reference.num_images,
        kept_generated=len(generated.kept),
        kept_real=0 if reference.features is None else len(reference.features),
    )


def _curve(sets: list[FeatureSet], reference: RealImages) -> dict[str, Any]:
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
    sets: list[FeatureSet],
    space: FeatureSpace,
    reference: RealImages,
    curve: dict[str, Any],
) -> dict[str, Value]:
    name = space.extractor.frechet_name
    distances = [reference.frechet_distance(some) for some in sets]
    found = {name: _over_seeds(distances)}
    if not math.isnan(curve["infinity"]):
        found[f"{name}_infinity"] = Value(curve["infinity"])
    return found


def _of_features(
    sets: list[FeatureSet], space: FeatureSpace, reference: RealImages
) -> dict[str, Value]:
    """Return what needs features themselves: of some images, where there are very many."""
    if reference.features is None:
        return {}
    kernels = [reference.kernel_distance(some) for some in sets]
    kernel = _over_seeds(
        [k.value for k in kernels], [k.standard_error for k in kernels]
    )
    manifolds = [reference.manifold_metrics(some) for some in sets]
    by_name = {
        name: _over_seeds([getattr(found, name) for found in manifolds])
        for name in manifolds[0]._fields
    }
    return {space.extractor.kernel_name: kernel, **by_name}


def _class_score(sets: list[FeatureSet], space: FeatureSpace) -> dict[str, Value]:
    scores = [some.class_score.value for some in sets if some.class_score is not None]
    name = space.extractor.score_name
    return {} if name is None or not scores else {name: _over_seeds(scores)}


def _over_seeds(values: list[float], errors: Iterable[float] = ()) -> Value:
    known = list(errors)
    return Value(
        fmean(values),
        stdev(values) if len(values) > 1 else None,
        fmean(known) if known else None,
        values,
    )
