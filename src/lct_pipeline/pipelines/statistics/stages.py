"""The temporal differences of the model at the end of each stage of the curriculum."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields
from typing import Any

import torch
from pandas import DataFrame

from lct_pipeline.core.batches import BatchPreparation
from lct_pipeline.core.losses import PAPER_LAW
from lct_pipeline.core.objectives import Batch
from lct_pipeline.core.outliers import OutlierStatistics, outlier_statistics
from lct_pipeline.core.preconditioning import Denoiser
from lct_pipeline.core.randomness import derived_seed
from lct_pipeline.core.ranks import Ranks
from lct_pipeline.core.temporal_differences import (
    LevelPair,
    stage_pairs,
    temporal_differences,
)
from lct_pipeline.datasets.checkpoints import CheckpointStore
from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.datasets.splits import indices_of
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import ParameterError
from lct_pipeline.models.description import ModelDescription
from lct_pipeline.parameters import Training, parameters_digest
from lct_pipeline.progress import track
from lct_pipeline.training.init_from import frozen_model
from lct_pipeline.training.latents import LatentReader, has_flips
from lct_pipeline.training.schedule import level_schedule

logger = logging.getLogger(__name__)

Batches = Callable[[], Iterator[Batch]]
COLUMNS = (
    "num_levels",
    "step",
    *LevelPair._fields,
    "c_paper",
    *(field.name for field in fields(OutlierStatistics)),
)


def stage_ends(checkpoints: CheckpointStore, parameters: Training) -> list[str]:
    """Return the raw checkpoints that end a stage, by step; none of a diffusion model.

    Raises:
        ParameterError: They were trained with other parameters.
    """
    if parameters.objective.kind == "diffusion":
        logger.info("A diffusion model has no temporal differences.")
        return []
    ends = {
        name: header
        for name, header in checkpoints.headers().items()
        if header.kind == "raw" and header.ends_stage
    }
    if not ends:
        logger.info("No stage of run %s is trained yet.", checkpoints.run)
    digest = parameters_digest(parameters.model_dump(mode="json"))
    if any(header.parameters_digest != digest for header in ends.values()):
        raise ParameterError(
            f"the run {checkpoints.run} was trained with other values of the group training. Give "
            "those, or the name of another run: --params=run_id=<name>."
        )
    return list(ends)


def training_batches(
    latents: ShardStore,
    latent_manifest: DataFrame,
    latent_normalisation: TensorFile,
    class_counts: dict[str, int],
    parameters: Training,
    device: torch.device,
    *,
    num_images: int,
    batch_size: int,
) -> Batches:
    """Return the function that starts anew on the images of the first epoch, in its order.

    They are drawn, labelled and coupled with noise as in training, over its batches, and the noise
    is another than there. They come in parts of ``batch_size`` and are made again at each call:
    coupling costs little beside the network, and memory does not grow with their number.

    Args:
        latents: The posteriors.
        latent_manifest: Their rows.
        latent_normalisation: Mean and standard deviation per position.
        class_counts: Training images of each class; empty for a model without classes.
        parameters: The training's parameters.
        device: Where to.
        num_images: How many images, mirror images counted; 0, or more than there are: all.
        batch_size: Images at a time.
    """
    read = LatentReader(
        latents,
        latent_manifest,
        latent_normalisation,
        class_counts,
        parameters,
        device,
        on_device=False,
    )
    prepare = BatchPreparation(
        read=read,
        schedule=level_schedule(parameters),
        coupling=parameters.objective.coupling,
        seed=derived_seed(parameters.seed, "temporal differences"),
        ranks=Ranks(0, 1, device),
    )
    num_items = len(indices_of(latent_manifest, "train")) * (1 + has_flips(latents))
    num_chosen = min(num_images or num_items, num_items)

    def batches() -> Iterator[Batch]:
        for step in range(math.ceil(num_chosen / parameters.batch_size)):
            whole = prepare(step).used_here().batch
            rest = min(len(whole.x), num_chosen - step * parameters.batch_size)
            for start in range(0, rest, batch_size):
                yield whole.part(slice(start, min(start + batch_size, rest)))

    return batches


def stage_rows(
    checkpoint: TensorFile,
    batches: Batches,
    parameters: Training,
    num_pairs: int,
    device: torch.device,
) -> Iterator[dict[str, Any]]:
    """Yield a row for each chosen pair of levels of one stage, with ``COLUMNS``."""
    about = checkpoint.metadata
    num_levels = about["num_levels"]
    network = ModelDescription.from_json(about["network"])
    grid = {key: getattr(network, key) for key in ("sigma_min", "sigma_max", "rho")}
    schedule = level_schedule(parameters)
    pairs = stage_pairs(schedule, about["step"] - 1, num_pairs, **grid)
    model = frozen_model(checkpoint, device)
    for pair in track(pairs, f"measure N = {num_levels}", "level"):
        yield {
            "num_levels": num_levels,
            "step": about["step"],
            **pair._asdict(),
            "c_paper": PAPER_LAW(num_levels),
            **_describe(model, batches, pair),
        }


def _describe(model: Denoiser, batches: Batches, pair: LevelPair) -> dict[str, Any]:
    """Return the statistics of all elements of d at one pair of levels.

    The values of d are kept for the passes over them, float32: the network takes longer than they
    take memory.
    """
    differences = temporal_differences(model, batches(), pair.t, pair.r)
    values = [d.cpu() for d in differences]
    return asdict(outlier_statistics(lambda: iter(values))[-1])
