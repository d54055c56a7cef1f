"""Figures of two sets of files, each image as it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from pandas import DataFrame
from torch import Tensor

from lct_pipeline.core.metrics.feature_sets import FeatureReducer, FeatureSet
from lct_pipeline.core.metrics.frechet import FrechetReference
from lct_pipeline.core.randomness import derived_generator
from lct_pipeline.core.sample_quality import random_subset
from lct_pipeline.datasets.decoding import UndecodableImageError, decode_pixels
from lct_pipeline.datasets.sources import ImageSource, RawImage
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import DataError, ParameterError
from lct_pipeline.evaluation.extractors import FITTED, described, extractor_of
from lct_pipeline.evaluation.judges import (
    Judge,
    Reference,
    reference_of_others,
)
from lct_pipeline.evaluation.measures import rows_of
from lct_pipeline.evaluation.protocol import FILES, log_by_protocol
from lct_pipeline.models.features.extractors import FeatureExtractor
from lct_pipeline.parameters import Runtime
from lct_pipeline.parameters.data import Ingestion
from lct_pipeline.parameters.evaluation import Comparison, Features
from lct_pipeline.processes.threads import automatic_num_workers, ordered_map
from lct_pipeline.progress import track


def compared(
    generated: ImageSource | None,
    reference: ImageSource | None,
    statistics: TensorFile | None,
    parameters: Comparison,
    ingestion: Ingestion,
    features: Features,
    runtime: Runtime,
) -> list[dict[str, Any]]:
    """Return the figures of one set of images against another, or against somebody's statistics.

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
    measure = Measure(extractor, ingestion, features, runtime)
    found = measure(generated, f"features of {parameters.generated}")
    if reference is not None:
        against = _measured(reference, measure, str(parameters.reference))
    else:
        assert statistics is not None
        against = reference_of_others(statistics, len(found.kept[0]))
    judge = Judge(extractor, (against,), held_out=None)
    about = {"model": parameters.generated, "nfe": 0}
    rows, _ = rows_of(about, [found], judge, FILES, seeds=[])
    return rows


def _measured(source: ImageSource, measure: Measure, title: str) -> Reference:
    found = measure(source, f"features of {title}")
    frechet = FrechetReference(found.statistics)
    return Reference(title, source.fingerprint, frechet, found.kept)


class Measure:
    """Reduces the images of a source to what an extractor finds in them.

    Args:
        extractor: The extractor.
        ingestion: Bounds of what is decoded.
        features: How many images at a time, and how many features are kept.
        runtime: In how many threads images are decoded.
    """

    def __init__(
        self,
        extractor: FeatureExtractor,
        ingestion: Ingestion,
        features: Features,
        runtime: Runtime,
    ) -> None:
        self._extractor, self._ingestion = extractor, ingestion
        self._features, self._runtime = features, runtime

    def __call__(self, source: ImageSource, title: str) -> FeatureSet:
        """Return the feature set of all images of a source."""
        generator = derived_generator(self._features.seed, "kept features", "files")
        keep = random_subset(len(source), self._features.num_kept, generator)
        # files come in the order of their names, often by class: no block is like the others
        reducer = FeatureReducer(keep, num_blocks=1)
        extract, classify = self._extractor.extract, self._extractor.classify
        with torch.no_grad():
            for batch in self._batches(source, title):
                found = extract(batch)
                reducer.update(found, classify and classify(found))
        return reducer.result()

    def _batches(self, source: ImageSource, title: str) -> Iterator[Tensor]:
        num_workers = automatic_num_workers(self._runtime.num_workers)
        images = ordered_map(self._decode, source.read(0, len(source)), num_workers)
        progress = track(images, title, "image", total=len(source))
        return batches_of_one_shape(progress, self._features.batch_size)

    def _decode(self, raw: RawImage) -> Any:
        limits = self._ingestion
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


def log_rows(rows: list[dict[str, Any]]) -> None:
    """Log the figures for people."""
    log_by_protocol(DataFrame(rows))
