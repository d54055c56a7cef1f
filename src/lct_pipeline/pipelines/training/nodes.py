"""Nodes of the training stage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lct_pipeline.lazy_types import (
    Chart,
    CheckpointStore,
    DataFrame,
    Decoder,
    Figure,
    ShardStore,
    TensorFile,
)
from lct_pipeline.parameters import Runtime, Sampling, Training


def train_model(
    latents: ShardStore,
    latent_manifest: DataFrame,
    latent_normalisation: TensorFile,
    init_from_checkpoints: CheckpointStore,
    previous_training_state: TensorFile | None,
    parameters: Training,
    runtime: Runtime,
) -> Iterator[tuple[Any, Any, Any]]:
    """Train, or continue; yield checkpoints, metrics and state at each checkpoint interval."""
    from lct_pipeline.training.loop import train
    from lct_pipeline.training.task import TrainingTask

    task = TrainingTask(
        latents,
        latent_manifest,
        latent_normalisation,
        init_from_checkpoints,
        previous_training_state,
        parameters,
        runtime,
    )
    yield from train(task)


def conclude_training(
    training_metrics: DataFrame,
    checkpoints: CheckpointStore,
    decoder: Decoder,
    sampling: Sampling,
    runtime: Runtime,
) -> tuple[Chart, Figure, dict[str, Any]]:
    """Draw the curves, and samples of each stage's end from the same noise; record the model."""
    from lct_pipeline.pipelines.training.conclusion import (
        draw_training_curves,
        record_of,
        stage_samples,
    )

    return (
        draw_training_curves(training_metrics),
        stage_samples(checkpoints, decoder, sampling, runtime),
        record_of(checkpoints),
    )
