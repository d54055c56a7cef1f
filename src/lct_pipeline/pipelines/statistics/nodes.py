"""Nodes of the statistics stage."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from lct_pipeline.datasets.autoencoder import PIXELS
from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.datasets.splits import indices_of
from lct_pipeline.datasets.tensors import CheckpointStore, TensorFile
from lct_pipeline.lazy_types import DataFrame, pd
from lct_pipeline.models.batch_sizes import batch_size_for
from lct_pipeline.parameters import Encoding, Runtime, Statistics, Training


def measure_pixels(
    images: ShardStore, image_manifest: DataFrame, parameters: Encoding
) -> DataFrame:
    """Return the outlier statistics of the training split's pixels, per channel and overall."""
    return _measure(images, "images", image_manifest, parameters.batch_size)


def measure_latents(
    latents: ShardStore, latent_manifest: DataFrame, parameters: Encoding
) -> DataFrame:
    """Return the outlier statistics of the training split's raw latents (posterior means)."""
    return _measure(latents, "mean", latent_manifest, parameters.batch_size)


def _measure(
    store: ShardStore, name: str, manifest: DataFrame, batch_size: int
) -> DataFrame:
    from lct_pipeline.core.outliers import outlier_statistics

    indices = indices_of(manifest, "train")
    size = batch_size_for(batch_size, store.shards[0].record_shape(name))
    rows = outlier_statistics(lambda: store.batches(name, size, indices))
    return pd.DataFrame([asdict(row) for row in rows])


def measure_temporal_differences(
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
    from lct_pipeline.models.device import choose_device
    from lct_pipeline.pipelines.statistics.stages import (
        COLUMNS,
        stage_ends,
        stage_rows,
        training_batches,
    )

    rows: list[dict[str, Any]] = []
    names, device = stage_ends(checkpoints, training), choose_device(runtime.device)
    if names:
        shape = latents.shards[0].record_shape("mean")
        batches = training_batches(
            latents,
            latent_manifest,
            latent_normalisation,
            checkpoints.header(names[0])["network"]["class_counts"],
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


def summarise_temporal_differences(td_statistics: DataFrame) -> DataFrame:
    """Return the spread at each N over all levels as training draws them, and two laws of c.

    ``spread`` is the standard deviation of all elements; ``c_fitted`` is the law
    exp(``slope`` ln N + ``intercept``) through the spreads, ``c_paper`` the authors'.
    """
    from lct_pipeline.core.scaling_c import fit_power_law
    from lct_pipeline.core.temporal_differences import pooled_std

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
