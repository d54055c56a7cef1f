"""Has the model copied? Generated images beside the nearest training images."""

from __future__ import annotations

import logging
import math
from typing import Any

import torch
from matplotlib.figure import Figure
from pandas import DataFrame
from torch import Tensor

from lct_pipeline.core.metrics.neighbours import copy_ratios, nearest_neighbours
from lct_pipeline.core.randomness import derived_generator
from lct_pipeline.core.sample_quality import (
    feature_batches,
    features_of,
    random_subset,
)
from lct_pipeline.datasets.decoder import Decoder
from lct_pipeline.datasets.model_set import ModelSet
from lct_pipeline.datasets.reference import Reference
from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.datasets.splits import indices_of
from lct_pipeline.evaluation.extractors import extractor_of
from lct_pipeline.evaluation.generator import build_generator, first_plan
from lct_pipeline.parameters import Runtime, Sampling
from lct_pipeline.parameters.evaluation import Evaluation
from lct_pipeline.progress import track
from lct_pipeline.reporting.grids import draw_neighbours
from lct_pipeline.reporting.sentences import copied
from lct_pipeline.reporting.words import number

logger = logging.getLogger(__name__)


def nearest_training_images(
    models: ModelSet,
    decoder: Decoder,
    images: ShardStore,
    image_manifest: DataFrame,
    reference: Reference,
    parameters: Evaluation,
    sampling: Sampling,
    runtime: Runtime,
) -> tuple[Figure, dict[str, Any]]:
    """Return a figure of images nearest to training images, and how near all of them are.

    The images are the final model's, with the fewest evaluations; the distance is between features.
    Test images tell how near a new image is.
    """
    wanted, batch_size = parameters.neighbours, sampling.batch_size
    if wanted.num_images == 0:
        return _nothing_asked_for(), {"num_images": 0}
    made = _made(models, decoder, parameters, sampling, runtime)
    extract = extractor_of(reference.extractor, runtime).extract
    held_out = images.batches(
        "images", batch_size, _held_out(image_manifest, parameters)
    )
    queries = torch.cat([features_of(made, extract), features_of(held_out, extract)])
    indices = indices_of(image_manifest, "train")
    training = track(
        images.batches("images", batch_size, indices),
        "nearest training images",
        "batch",
        total=math.ceil(len(indices) / batch_size),
    )
    num_neighbours = min(wanted.num_neighbours, len(indices))
    found = nearest_neighbours(
        queries, feature_batches(training, extract), num_neighbours
    )
    nearest, of_held_out = found.distances[:, 0].tensor_split([wanted.num_images])
    record = _record(nearest, of_held_out, len(indices))
    shown = nearest.argsort()[: wanted.num_shown]
    places = indices[found.indices[shown].numpy()]
    figure = draw_neighbours(
        torch.cat(made)[shown],
        torch.stack([images.gather("images", row) for row in places]),
        found.distances[shown],
        nearest,
        of_held_out,
        f"The {len(shown)} of {len(nearest)} generated images that are nearest to a training "
        "image\n"
        f"(median of all: {number(record['median_ratio'])} times as far as new real images)",
    )
    return figure, record


def _made(
    models: ModelSet,
    decoder: Decoder,
    parameters: Evaluation,
    sampling: Sampling,
    runtime: Runtime,
) -> list[Tensor]:
    """Return batches of images of the final model."""
    generator = build_generator(models.network, decoder, sampling, runtime)
    generator.load(models.file(models.names[-1]).tensors)
    batches = generator.images(
        parameters.neighbours.num_images,
        first_plan(models.network, sampling),
        seed=parameters.seed,
        purpose="neighbours",
    )
    return [batch.cpu() for batch in batches]


def _held_out(image_manifest: DataFrame, parameters: Evaluation) -> Any:
    """Return the places of as many test images, at random."""
    indices = indices_of(image_manifest, "test")
    generator = derived_generator(parameters.seed, "held-out neighbours")
    count = min(parameters.neighbours.num_images, len(indices))
    return indices[random_subset(len(indices), count, generator).numpy()]


def _record(generated: Tensor, held_out: Tensor, num_training: int) -> dict[str, Any]:
    """Return how near both come to a training image, from their distances, ``(Q,)``."""
    ratios, of_held_out = (
        copy_ratios(generated, held_out),
        copy_ratios(held_out, held_out),
    )
    record = {
        "num_images": len(generated),
        "num_held_out": len(held_out),
        "num_training": num_training,
        "median_ratio": ratios.median().item(),
        "smallest_ratio": ratios.min().item(),
        "share_below_half": (ratios < 0.5).double().mean().item(),
        "held_out_share_below_half": (of_held_out < 0.5).double().mean().item(),
    }
    logger.info(copied(record))
    return record


def _nothing_asked_for() -> Figure:
    figure = Figure(figsize=(5, 1))
    figure.text(0.5, 0.5, "evaluation.neighbours.num_images is 0", ha="center")
    return figure
