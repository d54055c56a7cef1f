"""Nodes of the statistics stage."""

from __future__ import annotations

from typing import Any

from lct_pipeline.lazy_types import (
    Chart,
    CheckpointStore,
    DataFrame,
    ShardStore,
    TensorFile,
)
from lct_pipeline.parameters import Encoding, Runtime, Statistics, Training


def measure_pixels(
    images: ShardStore, image_manifest: DataFrame, parameters: Encoding
) -> DataFrame:
    """Return the outlier statistics of the training split's pixels, per channel and overall."""
    from lct_pipeline.pipelines.statistics.measures import data_statistics

    return data_statistics(images, "images", image_manifest, parameters.batch_size)


def measure_latents(
    latents: ShardStore, latent_manifest: DataFrame, parameters: Encoding
) -> DataFrame:
    """Return the outlier statistics of the training split's raw latents (posterior means)."""
    from lct_pipeline.pipelines.statistics.measures import data_statistics

    return data_statistics(latents, "mean", latent_manifest, parameters.batch_size)


def measure_temporal_differences(
    checkpoints: CheckpointStore,
    latents: ShardStore,
    latent_manifest: DataFrame,
    latent_normalisation: TensorFile,
    encoding: Encoding,
    training: Training,
    parameters: Statistics,
    runtime: Runtime,
) -> tuple[DataFrame, DataFrame]:
    """Return the outlier statistics of f(x_t, t) - f(x_r, r), by stage and level, and by stage."""
    from lct_pipeline.pipelines.statistics import measures

    table = measures.stage_statistics(
        checkpoints,
        latents,
        latent_manifest,
        latent_normalisation,
        encoding,
        training,
        parameters,
        runtime,
    )
    return table, measures.summary_of(table)


def conclude_statistics(
    pixel_statistics: DataFrame,
    latent_statistics: DataFrame,
    td_statistics: DataFrame,
    td_summary: DataFrame,
) -> tuple[Chart, Chart, Chart, Chart, dict[str, Any]]:
    """Draw the box plots, and the standard deviation over N; record the tails of the data."""
    from lct_pipeline.reporting import box_plots

    return (
        box_plots.draw_box_plot(pixel_statistics, "Pixels"),
        box_plots.draw_box_plot(latent_statistics, "Latents"),
        box_plots.draw_td_box_plot(td_statistics),
        box_plots.draw_td_std(td_summary),
        {
            "pixels": box_plots.tails(pixel_statistics),
            "latents": box_plots.tails(latent_statistics),
            "stages": len(td_summary),
        },
    )
