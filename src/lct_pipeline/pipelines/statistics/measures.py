"""What the statistics stage measures: the tails of the data, and of a model's differences."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields
from functools import partial
from typing import Any

import pandas as pd
import torch
from pandas import DataFrame

from lct_pipeline.core.batches import BatchPreparation, Ranks
from lct_pipeline.core.losses import fit_power_law, paper_c
from lct_pipeline.core.objectives import Batch
from lct_pipeline.core.outliers import OutlierStatistics, outlier_statistics
from lct_pipeline.core.randomness import derived_seed
from lct_pipeline.core.temporal_differences import (
    LevelPair,
    pooled_std,
    stage_pairs,
    temporal_differences,
)
from lct_pipeline.datasets.autoencoder import PIXELS
from lct_pipeline.datasets.checkpoints import CheckpointStore
from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.datasets.splits import indices_of
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import ParameterError
from lct_pipeline.models.denoiser import ModelDescription
from lct_pipeline.models.device import batch_size_for, choose_device
from lct_pipeline.parameters import (
    Encoding,
    Runtime,
    Statistics,
    Training,
    parameters_digest,
)
from lct_pipeline.progress import track
from lct_pipeline.training.latents import LatentReader, has_flips
from lct_pipeline.training.trainer import (
    first_num_levels,
    frozen_model,
    level_schedule,
)

logger = logging.getLogger(__name__)

COLUMNS = (
    "num_levels",
    "step",
    *LevelPair._fields,
    "c_paper",
    *(field.name for field in fields(OutlierStatistics)),
)


def data_statistics(
    store: ShardStore, name: str, manifest: DataFrame, batch_size: int
) -> DataFrame:
    """Return the outlier statistics of the training split, per channel and overall."""
    indices = indices_of(manifest, "train")
    size = batch_size_for(batch_size, store.shards[0].record_shape(name))
    rows = outlier_statistics(lambda: store.batches(name, size, indices))
    return pd.DataFrame([asdict(row) for row in rows])


def stage_statistics(
    checkpoints: CheckpointStore,
    latents: ShardStore,
    latent_manifest: DataFrame,
    latent_normalisation: TensorFile,
    encoding: Encoding,
    training: Training,
    parameters: Statistics,
    runtime: Runtime,
) -> DataFrame:
    """Return the outlier statistics of f(x_t, t) - f(x_r, r), a row for each stage and level.

    Latents are drawn, labelled and coupled with noise as in training, over the batches of its first
    epoch, and the noise is another than there. The table is empty for a diffusion model, which has
    no such difference, and before a stage is trained.
    """
    names, device = _stage_ends(checkpoints, training), choose_device(runtime.device)
    rows: list[dict[str, Any]] = []
    if names:
        read = LatentReader(
            latents,
            latent_manifest,
            latent_normalisation,
            checkpoints.network(names[0]).class_counts,
            training,
            device,
            on_device=False,
        )
        num_items = len(indices_of(latent_manifest, "train")) * (1 + has_flips(latents))
        num_images = min(parameters.num_td_images or num_items, num_items)
        shape = latents.shards[0].record_shape("mean")
        size = batch_size_for(encoding.batch_size, shape, device)
        batches = partial(_batches, read, training, num_images, size, device)
        for name in names:
            checkpoint, num_pairs = checkpoints.read(name), parameters.num_td_levels
            rows += _rows(checkpoint, batches, training, num_pairs, device)
    space = "pixels" if encoding.autoencoder == PIXELS else "latents"
    return pd.DataFrame(rows, columns=list(COLUMNS)).assign(space=space)


def _stage_ends(checkpoints: CheckpointStore, parameters: Training) -> list[str]:
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


def _batches(
    read: LatentReader,
    training: Training,
    num_images: int,
    batch_size: int,
    device: torch.device,
) -> Iterator[Batch]:
    """Yield the first images of the first epoch, in parts of ``batch_size``.

    They are made again at each call: coupling costs little beside the network, and memory does not
    grow with their number.
    """
    prepare = BatchPreparation(
        read=read,
        schedule=level_schedule(training),
        coupling=training.objective.coupling,
        seed=derived_seed(training.seed, "temporal differences"),
        ranks=Ranks(0, 1, device),
    )
    for step in range(math.ceil(num_images / training.batch_size)):
        whole = prepare(step).used_here().batch
        rest = min(len(whole.x), num_images - step * training.batch_size)
        for start in range(0, rest, batch_size):
            yield whole.part(slice(start, min(start + batch_size, rest)))


def _rows(
    checkpoint: TensorFile,
    batches: Callable[[], Iterator[Batch]],
    training: Training,
    num_pairs: int,
    device: torch.device,
) -> Iterator[dict[str, Any]]:
    """Yield a row for each chosen pair of levels of one stage, with ``COLUMNS``.

    The values of d at a pair are kept for the passes over them, float32: the network takes longer
    than they take memory.
    """
    about = checkpoint.metadata
    num_levels, step = about["num_levels"], about["step"]
    network = ModelDescription.from_json(about["network"])
    grid = {key: getattr(network, key) for key in ("sigma_min", "sigma_max", "rho")}
    pairs = stage_pairs(level_schedule(training), step - 1, num_pairs, **grid)
    model = frozen_model(checkpoint, device)
    dimension, s0 = math.prod(network.sample_shape), first_num_levels(training)
    c = paper_c(num_levels, s0=s0, dimension=dimension)
    for pair in track(pairs, f"measure N = {num_levels}", "level"):
        values = [
            d.cpu() for d in temporal_differences(model, batches(), pair.t, pair.r)
        ]
        yield {
            "num_levels": num_levels,
            "step": step,
            **pair._asdict(),
            "c_paper": c,
            **asdict(outlier_statistics(partial(iter, values))[-1]),
        }


def summary_of(td_statistics: DataFrame) -> DataFrame:
    """Return the standard deviation at each N, and two laws of c.

    ``std`` is that of all elements over all levels as training draws them; ``c_fitted`` is the
    law exp(``slope`` ln N + ``intercept``) through it, ``c_paper`` what training has with
    ``c_schedule=paper``: the authors' law, in the first stage iCT's constant.
    """
    keys = ["num_levels", "step", "space", "c_paper"]
    stages = [
        (*key, pooled_std(*(rows[c].to_numpy() for c in ("mean", "std", "weight"))))
        for key, rows in td_statistics.groupby(keys)
    ]
    table = pd.DataFrame(stages, columns=[*keys, "std"])
    law = fit_power_law(dict(zip(table["num_levels"], table["std"], strict=True)))
    return table.assign(
        c_fitted=table["num_levels"].map(law),
        slope=law.slope,
        intercept=law.intercept,
    )
