"""Values of two sets of files, each image as it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lct_pipeline.core.metrics.feature_sets import FeatureSet
from lct_pipeline.core.metrics.frechet import FrechetReference
from lct_pipeline.core.randomness import derived_generator
from lct_pipeline.core.sample_quality import random_subset
from lct_pipeline.datasets.decoding import UndecodableImageError, decode_pixels
from lct_pipeline.datasets.sources import ImageSource, RawImage
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import DataError, ParameterError
from lct_pipeline.evaluation.evaluator import Evaluator, Measured
from lct_pipeline.evaluation.extractors import FITTED, described, extractor_of
from lct_pipeline.evaluation.feature_spaces import (
    FeatureSpace,
    RealImages,
    real_images_of_others,
)
from lct_pipeline.evaluation.measures import rows_of
from lct_pipeline.evaluation.protocol import FILES
from lct_pipeline.parameters import Runtime
from lct_pipeline.parameters.data import Ingestion
from lct_pipeline.parameters.evaluation import Comparison, Features
from lct_pipeline.processes.mapping import in_threads
from lct_pipeline.progress import track


def compared(
    generated: ImageSource | None,
    reference: ImageSource | None,
    statistics: TensorFile | None,
    parameters: Comparison,
    ingestion: Ingestion,
    features: Features,
    runtime: Runtime,
) -> Measured:
    """Return the values of one set of images against another, or against somebody's statistics.

    Images are neither cropped nor resized before the feature extractor resizes each of them, as
    clean-fid and pytorch-fid do with folders.

    Raises:
        ParameterError: Sets are not given, or the extractor is fitted to training images.
        DataError: An image cannot be decoded: a figure of part of the files would be another.
    """
    if features.extractor.kind == FITTED:
        raise ParameterError(
            "--pipeline=compare: features.extractor.kind=classifier is fitted to the images of a "
            "run. Give one that is not: inception, inception_pytorch, dinov2, or a network of "
            "yours."
        )
    if generated is None or (reference is None and statistics is None):
        raise ParameterError(
            "--pipeline=compare: give comparison.generated, and comparison.reference or "
            "comparison.statistics.path, protocol and num_images."
        )
    extractor = extractor_of(described(features.extractor, runtime), runtime)
    space, inputs = FeatureSpace(extractor, ()), Inputs(ingestion, features, runtime)
    found = _measured(generated, space, inputs, str(parameters.generated))
    if reference is not None:
        title = str(parameters.reference)
        real = _measured(reference, space, inputs, title)
        frechet = FrechetReference(real.statistics)
        against = RealImages(title, reference.fingerprint, frechet, real.kept)
    else:
        assert statistics is not None
        against = real_images_of_others(statistics, len(found.kept[0]))
    about = {"model": parameters.generated, "nfe": 0}
    space = replace(space, references=(against,))
    return Measured(*rows_of(about, [found], space, FILES, seeds=[]))


class Inputs(NamedTuple):
    """Parameters of what reads and decodes images, and of what is kept of them."""

    ingestion: Ingestion
    features: Features
    runtime: Runtime


def _measured(
    source: ImageSource, space: FeatureSpace, inputs: Inputs, title: str
) -> FeatureSet:
    """Return what an extractor finds in all images of a source."""
    features, num_images = inputs.features, len(source)
    generator = derived_generator(features.seed, "kept features", "files")
    keep = random_subset(num_images, features.num_retained, generator)
    # files come in the order of their names, often by class: no block is like the others
    evaluator = Evaluator((space,), FILES, features.num_retained, num_blocks=1)
    batches = _batches(source, inputs, f"features of {title}")
    return evaluator.features(batches, num_images, keep)[0]


def _batches(source: ImageSource, inputs: Inputs, title: str) -> Iterator[Tensor]:
    decode = partial(_decode, inputs.ingestion)
    entries = source.read(0, len(source))
    images = in_threads(decode, entries, inputs.runtime.num_workers)
    progress = track(images, title, "image", total=len(source))
    return batches_of_one_shape(progress, inputs.features.batch_size)


def _decode(limits: Ingestion, raw: RawImage) -> Any:
    try:
        if raw.problem is not None:
            raise UndecodableImageError(raw.problem)
        return decode_pixels(
            raw.content, min_side=limits.min_side, max_pixels=limits.max_pixels
        )
    except UndecodableImageError as problem:
        raise DataError(
            f"{raw.name} cannot be compared: {problem}. A figure of part of the files would "
            "be another: remove or replace it."
        ) from problem


def batches_of_one_shape(images: Iterable[Any], batch_size: int) -> Iterator[Tensor]:
    """Yield neighbours of the same shape together, ``(B, 3, H, W)``, uint8, in order."""
    batch: list[Any] = []
    for image in images:
        if batch and (len(batch) == batch_size or image.shape != batch[0].shape):
            yield torch.from_numpy(np.stack(batch))
            batch = []
        batch.append(image)
    if batch:
        yield torch.from_numpy(np.stack(batch))
