"""What is trained, on what, from where on: all that a training process needs."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pandas import DataFrame

from lct_pipeline.datasets.checkpoints import CheckpointStore
from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import ParameterError
from lct_pipeline.models.denoiser import ModelDescription
from lct_pipeline.parameters import Runtime, Training, first_difference
from lct_pipeline.training.description import class_counts, describe_model
from lct_pipeline.training.init_from import check_init_from, init_weights

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingTask:
    """The inputs of a training, and what follows from them; can be sent to another process."""

    latents: ShardStore
    latent_manifest: DataFrame
    latent_normalisation: TensorFile
    init_from_checkpoints: CheckpointStore
    previous_state: TensorFile | None
    parameters: Training
    runtime: Runtime

    @cached_property
    def description(self) -> ModelDescription:
        """Return what every checkpoint says of its model.

        Raises:
            ParameterError: A conditional model is asked for and images have no labels.
        """
        shape = self.latent_normalisation.tensors["mean"].shape
        counts = class_counts(self.latent_manifest, self.parameters)
        return describe_model(self.parameters, shape, counts)

    @cached_property
    def init_from(self) -> TensorFile | None:
        """Return the checkpoint that is the start, the teacher or the first stage.

        Raises:
            ParameterError: It is not there, or does not fit what is trained.
        """
        found = init_weights(self.init_from_checkpoints, self.parameters)
        if found is not None:
            check_init_from(found, self.description, self.parameters)
        return found

    @property
    def origin(self) -> dict[str, Any]:
        """Return what the state says that it was trained with and on."""
        return {
            "parameters": self.parameters.model_dump(mode="json"),
            "latents": self.latents.fingerprint,
        }

    @property
    def first_step(self) -> int:
        """Return how many steps the previous state has done."""
        return self.previous_state.metadata["step"] if self.previous_state else 0

    def check_previous_state(self) -> None:
        """Refuse a state of other parameters or another autoencoder.

        Raises:
            ParameterError: It is; names the first difference and how to go on.
        """
        if self.previous_state is None:
            return
        before, now = self.previous_state.metadata, self.origin
        difference = first_difference(
            {"training": before["parameters"]}, {"training": now["parameters"]}
        )
        if difference:
            raise ParameterError(
                f"this run was started with other parameters ({difference}). Give the old value "
                "to continue it, or another name: --params=run_id=<name>."
            )
        old_images, old_autoencoder = before["latents"].rsplit("-", 1)
        new_images, new_autoencoder = now["latents"].rsplit("-", 1)
        if old_autoencoder != new_autoencoder:
            raise ParameterError(
                "this run was started on latents of another autoencoder. Give the run another "
                "name: --params=run_id=<name>."
            )
        if old_images != new_images:
            logger.warning(
                "The images changed since step %d; training goes on.", self.first_step
            )
        logger.info("Continuing after step %d.", self.first_step)
