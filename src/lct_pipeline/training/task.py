"""What is trained, on what, from where on: all that a training process needs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pandas import DataFrame

from lct_pipeline.datasets.checkpoints import CheckpointStore
from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.datasets.splits import images_digest, usable_rows
from lct_pipeline.datasets.tensors import TensorFile, content_digest
from lct_pipeline.errors import ParameterError
from lct_pipeline.models.denoiser import ModelDescription
from lct_pipeline.parameters import Runtime, Training, first_difference
from lct_pipeline.parameters.training import Network


def describe_model(
    parameters: Training, sample_shape: Sequence[int], class_counts: dict[str, int]
) -> ModelDescription:
    """Return the description of the model that these parameters train.

    Args:
        parameters: The training's parameters.
        sample_shape: ``(C, H, W)`` of a latent.
        class_counts: Training images of each class, of a conditional model; empty otherwise.
    """
    network, noise = parameters.network, parameters.noise
    is_diffusion = parameters.objective.kind == "diffusion"
    # the level at which the model is the identity; the continuous levels of ECT reach down to 0
    at_zero = is_diffusion or noise.schedule == "continuous"
    truncated = parameters.objective.kind == "truncated"
    return ModelDescription(
        model="diffusion" if is_diffusion else "consistency",
        kind=network.kind,
        sample_shape=tuple(sample_shape),
        norm=network.norm,
        output_norm=network.norm,
        dropout=network.dropout,
        num_classes=len(class_counts),
        class_counts=class_counts,
        network=getattr(network, network.kind).model_dump(mode="json"),
        sigma_data=noise.sigma_data,
        boundary=0.0 if at_zero else noise.sigma_min,
        sigma_min=noise.sigma_min,
        sigma_max=noise.sigma_max,
        rho=noise.rho,
        lowest_level=parameters.objective.truncation.level if truncated else 0.0,
    )


def class_counts(manifest: DataFrame, network: Network) -> dict[str, int]:
    """Return the training images of each class, sorted by name; empty if not conditional.

    Raises:
        ParameterError: A conditional model is asked for and images have no labels.
    """
    if not network.conditional:
        return {}
    labels = usable_rows(manifest, "train")["label"]
    if labels.isna().any() or labels.nunique() < 2:
        raise ParameterError(
            "training.network.conditional=true needs a label for every image and at least two "
            "labels: put the images into one folder per class, or give conditional=false."
        )
    return {str(name): int(n) for name, n in labels.value_counts().sort_index().items()}


def init_checkpoint(store: CheckpointStore, parameters: Training) -> str | None:
    """Return the name of the checkpoint to begin with; None where none is asked for.

    Raises:
        ParameterError: The run or the checkpoint is not there.
    """
    chosen = parameters.init_from
    if chosen.run is None:
        return None
    names = store.names()
    if not names:
        raise ParameterError(
            f"training.init_from.run={chosen.run}: there are no checkpoints in {store.folder}. "
            "Train that run first, or give the name of another folder of data/06_models."
        )
    name = chosen.checkpoint or _last_average(store)
    if name not in names:
        raise ParameterError(
            f"training.init_from.checkpoint={name}: not in {store.folder}; its last ones are "
            f"{', '.join(names[-4:])}."
        )
    return name


def _last_average(store: CheckpointStore) -> str:
    """Return the longest average of a fixed rate at the last step, else the last weights."""
    headers = store.headers()
    last = max(header.step for header in headers.values())
    at_end = {n: h.ema_rate for n, h in headers.items() if h.step == last}
    rates = {name: rate for name, rate in at_end.items() if rate is not None}
    return max(rates, key=lambda n: rates[n]) if rates else f"step-{last:07d}-raw"


def check_init_from(
    init_from: TensorFile, description: ModelDescription, parameters: Training
) -> None:
    """Refuse a first stage that does not fit what is trained on it.

    Raises:
        ParameterError: It has another network, or is not the kind of model that is needed.
    """
    network = ModelDescription.from_json(init_from.metadata["network"])
    there, here = network.as_json(), description.as_json()
    kind = description.kind
    same = ("kind", "sample_shape", "norm", "output_norm", "num_classes", kind)
    for key in same:
        if there.get(key) != here[key]:
            raise ParameterError(
                f"training.init_from.run={parameters.init_from.run} has another network: "
                f"{key} is {there.get(key)!r} there and {here[key]!r} here. Give "
                "training.network the values of that run."
            )
    needed = {"distillation": "diffusion", "truncated": "consistency"}
    model = needed.get(parameters.objective.kind)
    if model is not None and network.model != model:
        raise ParameterError(
            f"training.objective.kind={parameters.objective.kind} needs a {model} model as its "
            f"first stage, and {parameters.init_from.run} is a {network.model} model."
        )


def refuse_other_values(before: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to go on with other parameters of training than those that weights are of.

    Raises:
        ParameterError: They differ; names the first difference and how to go on.
    """
    difference = first_difference({"training": before}, {"training": now})
    if difference:
        raise ParameterError(
            f"this run was started with other parameters ({difference}). Give the old value to "
            "continue it, or another name: --params=run_id=<name>."
        )


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
        counts = class_counts(self.latent_manifest, self.parameters.network)
        return describe_model(self.parameters, shape, counts)

    @cached_property
    def init_from(self) -> TensorFile | None:
        """Return the checkpoint that is the start, the teacher or the first stage.

        Raises:
            ParameterError: It is not there, or does not fit what is trained.
        """
        name = init_checkpoint(self.init_from_checkpoints, self.parameters)
        if name is None:
            return None
        found = self.init_from_checkpoints.read(name)
        check_init_from(found, self.description, self.parameters)
        return found

    @property
    def origin(self) -> dict[str, Any]:
        """Return what the state says that it was trained with and on."""
        return {
            "parameters": self.parameters.model_dump(mode="json"),
            "latents": self.latents.fingerprint,
        }

    @cached_property
    def trained_on(self) -> dict[str, str]:
        """Return the digests that every checkpoint says it was trained on."""
        stored = self.latent_normalisation
        return {
            "images": images_digest(self.latent_manifest),
            "autoencoder": str(self.latents.fingerprint).rsplit("-", 1)[1],
            "normalisation": content_digest(stored.tensors, stored.metadata),
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
        refuse_other_values(before["parameters"], now["parameters"])
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
