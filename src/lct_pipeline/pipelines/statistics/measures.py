"""What the nodes of the statistics stage measure."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pandas as pd
from pandas import DataFrame

from lct_pipeline.core.losses import fit_power_law
from lct_pipeline.core.outliers import outlier_statistics
from lct_pipeline.core.temporal_differences import pooled_std
from lct_pipeline.datasets.autoencoder import PIXELS
from lct_pipeline.datasets.checkpoints import CheckpointStore
from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.datasets.splits import indices_of
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.models.batch_sizes import batch_size_for
from lct_pipeline.models.device import choose_device
from lct_pipeline.parameters import Encoding, Runtime, Statistics, Training
from lct_pipeline.pipelines.statistics.stages import (
    COLUMNS,
    stage_ends,
    stage_rows,
    training_batches,
)


def measured(
    store: ShardStore, name: str, manifest: DataFrame, batch_size: int
) -> DataFrame:
    """Return the outlier statistics of the training split, per channel and overall."""
    indices = indices_of(manifest, "train")
    size = batch_size_for(batch_size, store.shards[0].record_shape(name))
    rows = outlier_statistics(lambda: store.batches(name, size, indices))
    return pd.DataFrame([asdict(row) for row in rows])


def temporal_differences(
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

    The table is empty for a diffusion model, which has no such difference, and before a stage is
    trained.
    """
    rows: list[dict[str, Any]] = []
    names, device = stage_ends(checkpoints, training), choose_device(runtime.device)
    if names:
        shape = latents.shards[0].record_shape("mean")
        batches = training_batches(
            latents,
            latent_manifest,
            latent_normalisation,
            checkpoints.network(names[0]).class_counts,
            training,
            device,
            num_images=parameters.num_td_images,
            batch_size=batch_size_for(encoding.batch_size, shape, device),
        )
    for name in names:
        rows += stage_rows(
            checkpoints.read(name), batches, training, parameters.num_td_levels, device
        )
    space = "pixels" if encoding.autoencoder == PIXELS else "latents"
    return pd.DataFrame(rows, columns=list(COLUMNS)).assign(space=space)


def summary_of(td_statistics: DataFrame) -> DataFrame:
    """Return the spread at each N over all levels as training draws them, and two laws of c.

    ``spread`` is the standard deviation of all elements; ``c_fitted`` is the law
    exp(``slope`` ln N + ``intercept``) through the spreads, ``c_paper`` the authors'.
    """
    keys = ["num_levels", "step", "space", "c_paper"]
    stages = [
        (*key, pooled_std(*(rows[c].to_numpy() for c in ("mean", "std", "weight"))))
        for key, rows in td_statistics.groupby(keys)
    ]
    table = pd.DataFrame(stages, columns=[*keys, "spread"])
    law = fit_power_law(dict(zip(table["num_levels"], table["spread"], strict=True)))
    return table.assign(
        c_fitted=table["num_levels"].map(law),
        slope=law.slope,
        intercept=law.intercept,
    )
