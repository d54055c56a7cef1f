"""The finished run that a training starts from, is taught by, or stands on."""

from __future__ import annotations

from typing import Any

from lct_pipeline.core.preconditioning import Denoiser
from lct_pipeline.datasets.checkpoints import CheckpointStore
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import ParameterError
from lct_pipeline.models.denoiser import ModelDescription, build_model
from lct_pipeline.parameters.training import Training


def init_weights(store: CheckpointStore, parameters: Training) -> TensorFile | None:
    """Return the checkpoint that ``training.init_from`` names; None where none is asked for.

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
    return store.read(name)


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


def frozen_model(init_from: TensorFile, device: Any) -> Denoiser:
    """Return the first stage's model, in evaluation mode and without gradients."""
    model = build_model(ModelDescription.from_json(init_from.metadata["network"]))
    model.network.load_state_dict(init_from.tensors)
    return model.to(device).eval().requires_grad_(False)
