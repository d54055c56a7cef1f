"""Has the model copied? Generated images beside the nearest training images."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import Any

import torch
from matplotlib.figure import Figure
from pandas import DataFrame
from torch import Tensor

from lct_pipeline.core.metrics.neighbours import (
    Neighbours,
    copy_ratios,
    nearest_neighbours,
)
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
from lct_pipeline.models.description import ModelDescription
from lct_pipeline.parameters import Runtime, Sampling
from lct_pipeline.parameters.evaluation import Evaluation
from lct_pipeline.progress import track
from lct_pipeline.reporting.neighbours import draw_neighbours

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
    wanted = parameters.neighbours
    if wanted.num_images == 0:
        return _nothing_asked_for(), {"num_images": 0}
    made = _made(models, decoder, parameters, sampling, runtime)
    extract = extractor_of(reference.extractor, runtime).extract
    held_out = list(
        images.batches(
            "images", sampling.batch_size, _held_out(image_manifest, parameters)
        )
    )
    queries = torch.cat([features_of(made, extract), features_of(held_out, extract)])
    indices = indices_of(image_manifest, "train")
    training = feature_batches(
        _training_images(images, indices, sampling.batch_size), extract
    )
    found = nearest_neighbours(
        queries, training, min(wanted.num_neighbours, len(indices))
    )
    record = _record(found, wanted.num_images, len(indices))
    figure = _figure(torch.cat(made), images, indices, found, record, wanted.num_shown)
    return figure, record


def _made(
    models: ModelSet,
    decoder: Decoder,
    parameters: Evaluation,
    sampling: Sampling,
    runtime: Runtime,
) -> list[Tensor]:
    """Return images of the final model."""
    model = models.file(models.names[-1])
    network = ModelDescription.from_json(model.metadata["network"])
    generator = build_generator(network, decoder, sampling, runtime)
    generator.load(model.tensors)
    batches = generator.images(
        parameters.neighbours.num_images,
        first_plan(network, sampling),
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


def _training_images(
    images: ShardStore, indices: Any, batch_size: int
) -> Iterator[Tensor]:
    return iter(
        track(
            images.batches("images", batch_size, indices),
            "nearest training images",
            "batch",
            total=math.ceil(len(indices) / batch_size),
        )
    )


def _record(found: Neighbours, num_generated: int, num_training: int) -> dict[str, Any]:

    nearest = found.distances[:, 0]
    held_out = nearest[num_generated:]
    ratios = copy_ratios(nearest[:num_generated], held_out)
    record = {
        "num_images": num_generated,
        "num_held_out": len(nearest) - num_generated,
        "num_training": num_training,
        "median_ratio": ratios.median().item(),
        "smallest_ratio": ratios.min().item(),
        "share_below_half": _share_below_half(ratios),
        "held_out_share_below_half": _share_below_half(copy_ratios(held_out, held_out)),
    }
    logger.info(
        "Generated images are %.2f times as far from the nearest training image as new real ones "
        "are (median of %d; the nearest %.2f times; %.1f %% below 0.5, of new real ones %.1f %%).",
        record["median_ratio"],
        num_generated,
        record["smallest_ratio"],
        100 * record["share_below_half"],
        100 * record["held_out_share_below_half"],
    )
    return record


def _share_below_half(ratios: Tensor) -> float:
    return (ratios < 0.5).double().mean().item()


def _figure(
    made: Tensor,
    images: ShardStore,
    indices: Any,
    found: Neighbours,
    record: dict[str, Any],
    num_shown: int,
) -> Any:
    count = record["num_images"]
    nearest = found.distances[:, 0]
    shown = nearest[:count].argsort()[:num_shown]
    neighbours = torch.stack(
        [
            images.gather("images", indices[found.indices[query].numpy()])
            for query in shown.tolist()
        ]
    )
    return draw_neighbours(
        made[shown],
        neighbours,
        found.distances[shown],
        nearest[:count],
        nearest[count:],
        f"The {len(shown)} of {count} generated images that are nearest to a training image\n"
        f"(median of all: {record['median_ratio']:.2f} times as far as new real images)",
    )


def _nothing_asked_for() -> Any:
    figure = Figure(figsize=(5, 1))
    figure.text(0.5, 0.5, "evaluation.neighbours.num_images is 0", ha="center")
    return figure
