"""Pictures of models: samples side by side, and images beside the nearest training images."""

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
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.evaluation.feature_spaces import extractor_of
from lct_pipeline.evaluation.generator import build_generator, gaussian_images
from lct_pipeline.evaluation.plans import first_plan
from lct_pipeline.parameters import Runtime, Sampling
from lct_pipeline.parameters.evaluation import Evaluation
from lct_pipeline.progress import track
from lct_pipeline.reporting.pictures import draw_neighbours, draw_panels
from lct_pipeline.reporting.sentences import copied
from lct_pipeline.reporting.words import MODELS, number

logger = logging.getLogger(__name__)

NO_MODEL, REAL = "gaussian_latents", "real_test_images"


def sample_panels(
    models: ModelSet,
    decoder: Decoder,
    images: ShardStore,
    image_manifest: DataFrame,
    sampling: Sampling,
    runtime: Runtime,
) -> TensorFile:
    """Return samples of each model and plan from the same noise, decoded noise and real images.

    Each tensor is uint8, ``(grid_size^2, 3, H, W)`` (real images: at most as many); the metadata's
    ``panels`` says of which model and number of evaluations, in the order of the plans.
    """
    generator = build_generator(models.network, decoder, sampling, runtime)
    files = {name: models.file(name) for name in models.names}
    found = {}
    # the plans of all models with as many evaluations side by side, fewest first
    for plans in zip(*models.plans.values(), strict=True):
        for (name, file), plan in zip(files.items(), plans, strict=True):
            samples = generator.grid(file.tensors, plan, seed=0)
            found[name, plan.num_evaluations] = samples
    count = sampling.grid_size**2
    noise = torch.cat(list(gaussian_images(generator, count, seed=0)))
    found[NO_MODEL, 0] = noise.cpu()
    test = indices_of(image_manifest, "test")[:count]
    found[REAL, 0] = images.gather("images", test)
    titles = {**MODELS}
    combined = files["combined"].metadata if "combined" in files else {}
    if combined.get("kind") == "baseline":
        titles["combined"] = f"best baseline: {combined['name']}"
    panels = [{"model": name, "nfe": nfe, "title": titles[name]} for name, nfe in found]
    tensors = {panel_key(p): t for p, t in zip(panels, found.values(), strict=True)}
    return TensorFile(tensors, {"panels": panels})


def panel_key(panel: dict[str, Any]) -> str:
    """Return the name of a panel's tensor."""
    return f"{panel['model']}-{panel['nfe']}"


def draw_sample_grid(sample_panels: TensorFile) -> Figure:
    """Draw each model with the fewest evaluations, the final one with the most, and the others."""
    panels = sample_panels.metadata["panels"]
    trained = [p for p in panels if p["nfe"] > 0]
    first = [p for p in trained if p["nfe"] == trained[0]["nfe"]]
    shown = [*first, *([trained[-1]] if trained[-1] not in first else [])]
    drawn = {
        f"{p['title']}, NFE {p['nfe']}": sample_panels.tensors[panel_key(p)]
        for p in shown
    }
    others = (p for p in panels if p not in trained)
    drawn |= {p["title"]: sample_panels.tensors[panel_key(p)] for p in others}
    return draw_panels(drawn, "Samples from the same noise")


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
        empty = Figure(figsize=(5, 1))
        empty.text(0.5, 0.5, "evaluation.neighbours.num_images is 0", ha="center")
        return empty, {"num_images": 0}
    made = _made(models, decoder, parameters, sampling, runtime)
    extract = extractor_of(reference.extractor, runtime).extract
    test = indices_of(image_manifest, "test")
    draws = derived_generator(parameters.seed, "held-out neighbours")
    some = random_subset(len(test), min(wanted.num_images, len(test)), draws)
    held_out = images.batches("images", batch_size, test[some.numpy()])
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
        f"(median of all: {number(record.get('median_ratio'))} times as far as new real images)",
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


def _record(generated: Tensor, held_out: Tensor, num_training: int) -> dict[str, Any]:
    """Return how near both come to a training image, from their distances, ``(Q,)``.

    Of no images where held-out ones are copies of training images: nothing can be told by them.
    """
    try:
        ratios = copy_ratios(generated, held_out)
    except ValueError as error:
        logger.warning("It cannot be told whether images were copied: %s.", error)
        return {"num_images": 0}
    of_held_out = copy_ratios(held_out, held_out)
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
