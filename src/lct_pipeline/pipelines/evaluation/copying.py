"""Has the model copied? Generated images beside the nearest training images."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lct_pipeline.datasets.autoencoder import StoredAutoencoder
from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.datasets.splits import indices_of
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.lazy_types import DataFrame
from lct_pipeline.parameters import Runtime, Sampling
from lct_pipeline.parameters.evaluation import Evaluation, Features
from lct_pipeline.pipelines.references.extractors import extractor_of
from lct_pipeline.progress import track

if TYPE_CHECKING:
    from torch import Tensor

    from lct_pipeline.core.metrics.neighbours import Neighbours

logger = logging.getLogger(__name__)


def find_nearest_neighbours(
    best_average: TensorFile,
    combined_model: TensorFile | None,
    autoencoder: StoredAutoencoder,
    latent_normalisation: TensorFile,
    images: ShardStore,
    image_manifest: DataFrame,
    feature_extractor: TensorFile,
    parameters: Evaluation,
    features: Features,
    sampling: Sampling,
    runtime: Runtime,
) -> tuple[dict[str, Any], Any]:
    """Return how near generated images are to training images, and a figure of the nearest.

    The images are the combined model's where there is one, else the best average's, with the
    fewest evaluations; the distance is between features. Test images tell how near a new image is.
    """
    import torch

    from lct_pipeline.core.metrics.neighbours import nearest_neighbours
    from lct_pipeline.core.sample_quality import feature_batches, features_of
    from lct_pipeline.evaluation.generator import build_generator, first_plan

    wanted = parameters.neighbours
    if wanted.num_images == 0:
        return {"num_images": 0}, _nothing_asked_for()
    model = combined_model or best_average
    network = model.metadata["network"]
    generator = build_generator(
        network, autoencoder, latent_normalisation, sampling, runtime
    )
    generator.load(model.tensors)
    plan = first_plan(network, sampling)
    made = [
        batch.cpu()
        for batch in generator.images(
            wanted.num_images, plan, seed=parameters.seed, purpose="neighbours"
        )
    ]
    extract = extractor_of(feature_extractor, runtime).extract
    held_out = list(
        images.batches(
            "images", features.batch_size, _held_out(image_manifest, parameters)
        )
    )
    queries = torch.cat([features_of(made, extract), features_of(held_out, extract)])
    indices = indices_of(image_manifest, "train")
    training = feature_batches(
        _training_images(images, indices, features.batch_size), extract
    )
    found = nearest_neighbours(
        queries, training, min(wanted.num_neighbours, len(indices))
    )
    record = _record(found, wanted.num_images, len(indices))
    figure = _figure(torch.cat(made), images, indices, found, record, wanted.num_shown)
    return record, figure


def _held_out(image_manifest: DataFrame, parameters: Evaluation) -> Any:
    """Return the places of as many test images, at random."""
    from lct_pipeline.core.randomness import derived_generator
    from lct_pipeline.core.sample_quality import random_subset

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
    from lct_pipeline.core.metrics.neighbours import copy_ratios

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
    import torch

    from lct_pipeline.reporting.neighbours import draw_neighbours

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
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 1))
    figure.text(0.5, 0.5, "evaluation.neighbours.num_images is 0", ha="center")
    return figure
