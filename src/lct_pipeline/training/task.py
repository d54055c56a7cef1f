"""What is trained, on what, from where on: all that a training process needs."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from pandas import DataFrame

from lct_pipeline.datasets.checkpoints import CheckpointStore
from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import ParameterError
from lct_pipeline.models.description import ModelDescription
from lct_pipeline.parameters import Runtime, Training, first_difference
from lct_pipeline.training.description import class_counts, describe_model
from lct_pipeline.training.init_from import (
    check_init_from,
    init_weights,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingTask:
    """All that a process needs to train; can be sent to another one."""

    latents: ShardStore
    latent_manifest: DataFrame
    latent_normalisation: TensorFile
    init_from: TensorFile | None
    previous_state: TensorFile | None
    description: ModelDescription
    origin: dict[str, Any]
    parameters: Training
    runtime: Runtime


def origin_of(latents: ShardStore, parameters: Training) -> dict[str, Any]:
    """Return what a state was trained with and on."""
    return {
        "parameters": parameters.model_dump(mode="json"),
        "latents": latents.fingerprint,
    }


def check_state(state: TensorFile, origin: dict[str, Any]) -> None:
    """Refuse a state of other parameters or another autoencoder.

    Raises:
        ParameterError: It is; names the first difference and how to go on.
    """
    difference = first_difference(
        {"training": state.metadata["parameters"]}, {"training": origin["parameters"]}
    )
    if difference:
        raise ParameterError(
            f"this run was started with other parameters ({difference}). Give the old value to "
            "continue it, or another name: --params=run_id=<name>."
        )
    old_images, old_autoencoder = state.metadata["latents"].rsplit("-", 1)
    new_images, new_autoencoder = origin["latents"].rsplit("-", 1)
    if old_autoencoder != new_autoencoder:
        raise ParameterError(
            "this run was started on latents of another autoencoder. Give the run another name: "
            "--params=run_id=<name>."
        )
    step = state.metadata["step"]
    if old_images != new_images:
        logger.warning("The images changed since step %d; training goes on.", step)
    logger.info("Continuing after step %d.", step)


def training_task(
    latents: ShardStore,
    latent_manifest: DataFrame,
    latent_normalisation: TensorFile,
    init_from_checkpoints: CheckpointStore,
    previous_state: TensorFile | None,
    parameters: Training,
    runtime: Runtime,
) -> TrainingTask:
    """Return what is to be trained, or gone on with, its first stage checked.

    Raises:
        ParameterError: That does not fit the parameters.
    """
    shape = latent_normalisation.tensors["mean"].shape
    counts = class_counts(latent_manifest, parameters)
    description = describe_model(parameters, shape, counts)
    init_from = init_weights(init_from_checkpoints, parameters)
    if init_from is not None:
        check_init_from(init_from, description, parameters)
    return TrainingTask(
        latents=latents,
        latent_manifest=latent_manifest,
        latent_normalisation=latent_normalisation,
        init_from=init_from,
        previous_state=previous_state,
        description=description,
        origin=origin_of(latents, parameters),
        parameters=parameters,
        runtime=runtime,
    )
