"""Values of two sets of files, each image as it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import groupby, islice
from typing import Any

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
from lct_pipeline.evaluation.feature_spaces import (
    FeatureSpace,
    RealImages,
    described,
    external_images,
    extractor_of,
)
from lct_pipeline.evaluation.protocol import FILES
from lct_pipeline.parameters import Runtime
from lct_pipeline.parameters.data import Ingestion
from lct_pipeline.parameters.evaluation import TRAINED_HERE, Comparison, Features
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
    """Return the values of one set of images against another, or against third-party statistics.

    Images are neither cropped nor resized before the feature extractor resizes each of them, as
    clean-fid and pytorch-fid do with folders.

    Raises:
        ParameterError: Sets are not given, or the extractor is trained on a run's images.
        DataError: An image cannot be decoded: a value of part of the files would be another.
    """
    if features.extractor.kind == TRAINED_HERE:
        raise ParameterError(
            "--pipeline=compare: features.extractor.kind=classifier is trained on the images of a "
            "run. Give one that is not: inception, inception_pytorch, dinov2, or a network of "
            "yours."
        )
    if generated is None or (reference is None and statistics is None):
        raise ParameterError(
            "--pipeline=compare: give comparison.generated, and comparison.reference or "
            "comparison.statistics.path, protocol and num_images."
        )
    extractor = extractor_of(described(features.extractor, runtime), runtime)
    # files come in the order of their names, often by class: no block is like the others
    evaluator = Evaluator(
        (FeatureSpace(extractor, ()),), FILES, features.num_retained, num_blocks=1
    )
    decode = partial(_decode, ingestion)

    def seen(source: ImageSource, title: str | None) -> FeatureSet:
        count = len(source)
        images = in_threads(decode, source.read(0, count), runtime.num_workers)
        progress = track(images, f"features of {title}", "image", total=count)
        generator = derived_generator(features.seed, "kept features", "files")
        keep = random_subset(count, features.num_retained, generator)
        batches = batches_of_one_shape(progress, features.batch_size)
        return evaluator.features(batches, count, keep)[0]

    found = seen(generated, parameters.generated)
    if reference is not None:
        title = str(parameters.reference)
        real = seen(reference, title)
        frechet = FrechetReference(real.statistics)
        against = RealImages(title, reference.fingerprint, frechet, real.kept)
    else:
        assert statistics is not None
        against = external_images(statistics)
    beside = replace(evaluator, spaces=(FeatureSpace(extractor, (against,)),))
    about = {"model": parameters.generated, "nfe": 0}
    return beside.measured(about, [[found]], seeds=[])


def _decode(limits: Ingestion, raw: RawImage) -> Any:
    try:
        if raw.problem is not None:
            raise UndecodableImageError(raw.problem)
        return decode_pixels(
            raw.content, min_side=limits.min_side, max_pixels=limits.max_pixels
        )
    except UndecodableImageError as problem:
        raise DataError(
            f"{raw.name} cannot be compared: {problem}. A value of part of the files would "
            "be another: remove or replace it."
        ) from problem


def batches_of_one_shape(images: Iterable[Any], batch_size: int) -> Iterator[Tensor]:
    """Yield neighbours of the same shape together, ``(B, 3, H, W)``, uint8, in order."""
    for _, alike in groupby(images, key=lambda image: image.shape):
        while batch := list(islice(alike, batch_size)):
            yield torch.from_numpy(np.stack(batch))
