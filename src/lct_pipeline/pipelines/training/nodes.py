"""Nodes of the training stage."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from lct_pipeline.datasets.autoencoder import StoredAutoencoder
from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.datasets.tensors import CheckpointStore, TensorFile
from lct_pipeline.lazy_types import DataFrame, pd
from lct_pipeline.parameters import Runtime, Sampling, Training

logger = logging.getLogger(__name__)


def train_model(
    latents: ShardStore,
    latent_manifest: DataFrame,
    latent_normalisation: TensorFile,
    first_stage_checkpoints: CheckpointStore,
    previous_training_state: TensorFile | None,
    parameters: Training,
    runtime: Runtime,
) -> Iterator[tuple[dict[str, TensorFile], DataFrame, TensorFile]]:
    """Train, or continue; yield checkpoints, metrics and state at each checkpoint interval.

    The state is saved last: a run that is killed between two of them repeats the steps since the
    last one and writes the same checkpoints again.
    """
    from lct_pipeline.training.distributed import train_in_processes
    from lct_pipeline.training.task import check_state

    origin = {
        "parameters": parameters.model_dump(mode="json"),
        "latents": latents.fingerprint,
    }
    if previous_training_state is not None:
        check_state(previous_training_state, origin)
        if previous_training_state.metadata["step"] >= parameters.num_steps:
            logger.info("All %d training steps are already done.", parameters.num_steps)
            yield {}, pd.DataFrame(), previous_training_state
            return
    task = _task(
        latents,
        latent_manifest,
        latent_normalisation,
        first_stage_checkpoints,
        previous_training_state,
        origin,
        parameters,
        runtime,
    )
    yield from train_in_processes(task)


def _task(
    latents: ShardStore,
    latent_manifest: DataFrame,
    latent_normalisation: TensorFile,
    first_stage_checkpoints: CheckpointStore,
    previous_state: TensorFile | None,
    origin: dict[str, Any],
    parameters: Training,
    runtime: Runtime,
) -> Any:
    """Return the training task, its first stage checked."""
    from lct_pipeline.training.description import class_counts, describe_model
    from lct_pipeline.training.first_stage import (
        check_first_stage,
        first_stage_weights,
    )
    from lct_pipeline.training.task import TrainingTask

    shape = list(latent_normalisation.tensors["mean"].shape)
    counts = class_counts(latent_manifest, parameters)
    description = describe_model(parameters, shape, counts)
    first_stage = first_stage_weights(first_stage_checkpoints, parameters)
    if first_stage is not None:
        check_first_stage(first_stage, description, parameters)
    return TrainingTask(
        latents=latents,
        latent_manifest=latent_manifest,
        latent_normalisation=latent_normalisation,
        first_stage=first_stage,
        previous_state=previous_state,
        description=description,
        origin=origin,
        parameters=parameters,
        runtime=runtime,
    )


def draw_stage_samples(
    checkpoints: CheckpointStore,
    autoencoder: StoredAutoencoder,
    latent_normalisation: TensorFile,
    sampling: Sampling,
    runtime: Runtime,
) -> Any:
    """Draw one-step samples from the same noise at the end of each stage of the curriculum."""
    from lct_pipeline.evaluation.generator import build_generator, first_plan
    from lct_pipeline.reporting.sample_grids import draw_panels

    network = checkpoints.header(checkpoints.names()[0])["network"]
    generator = build_generator(
        network, autoencoder, latent_normalisation, sampling, runtime
    )
    panels = {
        f"N = {header['num_levels']}, step {header['step']}": generator.grid(
            checkpoints.read(name).tensors, first_plan(network, sampling), seed=0
        )
        for name, header in checkpoints.headers().items()
        if header["kind"] == "raw" and header["ends_stage"]
    }
    return draw_panels(panels, "Samples at the end of each stage, from the same noise")
