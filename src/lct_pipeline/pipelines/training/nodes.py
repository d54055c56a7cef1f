"""Nodes of the training stage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lct_pipeline.lazy_types import (
    Chart,
    CheckpointStore,
    DataFrame,
    Decoder,
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
    previous_checkpoints: CheckpointStore,
    decoder: Decoder | None,
    parameters: Training,
    sampling: Sampling,
    runtime: Runtime,
) -> Iterator[tuple[Any, Any, Any, Any]]:
    """Train, or continue; yield checkpoints, metrics, state and what draws samples of them."""
    from lct_pipeline.pipelines.training.samples import TrainingTask, train_and_show

    task = TrainingTask(
        latents,
        latent_manifest,
        latent_normalisation,
        init_from_checkpoints,
        previous_training_state,
        parameters,
        runtime,
    )
    yield from train_and_show(task, previous_checkpoints, decoder, sampling)


def conclude_training(
    training_metrics: DataFrame, checkpoints: CheckpointStore
) -> tuple[Chart, dict[str, Any]]:
    """Draw the curves; record the model."""
    from lct_pipeline.pipelines.training.conclusion import (
        draw_training_curves,
        record_of,
    )

    return draw_training_curves(training_metrics), record_of(checkpoints)
