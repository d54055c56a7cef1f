"""The denoiser as a checkpoint describes it: enough to build it and to generate with it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from torch import nn

from lct_pipeline.core.preconditioning import Denoiser
from lct_pipeline.errors import DataError
from lct_pipeline.models.dit import DiTNetwork
from lct_pipeline.models.mlp import MLPNetwork
from lct_pipeline.models.unet import UNetNetwork


@dataclass(frozen=True)
class ModelDescription:
    """A model as its training described it; levels are in units of normalised latents.

    Attributes:
        model: What it was trained as, by the objective.
        kind: Kind of its network.
        sample_shape: ``(C, H, W)`` of a latent.
        norm: Norm of the network.
        output_norm: Norm before its last layer.
        dropout: Probability in training.
        num_classes: Number of classes, 0 for an unconditional model.
        class_counts: Training images of each class by name, in the order of the labels; empty for
            an unconditional model.
        network: What else a network of this kind takes; in JSON it lies below the kind's name.
        sigma_data: Standard deviation of normalised latents.
        boundary: Level at which the model is the identity.
        sigma_min: Lowest level of the noise schedule.
        sigma_max: Highest level, at which sampling starts.
        rho: Exponent of the spacing of levels (Karras et al.).
        lowest_level: Level below which it was not trained, that of a truncation; else 0.
    """

    model: Literal["consistency", "diffusion"]
    kind: Literal["mlp", "unet", "dit"]
    sample_shape: tuple[int, ...]
    norm: str
    output_norm: str
    dropout: float
    num_classes: int
    class_counts: dict[str, int]
    network: dict[str, Any]
    sigma_data: float
    boundary: float
    sigma_min: float
    sigma_max: float
    rho: float
    lowest_level: float

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ModelDescription:
        """Return what :meth:`as_json` of it gave.

        Raises:
            DataError: A key is missing or unknown.
        """
        names = [field.name for field in fields(cls)]
        keys = [value.get("kind", "") if name == "network" else name for name in names]
        check_keys(value, keys, keys, "the description of a model")
        values = {name: value[key] for name, key in zip(names, keys, strict=True)}
        return cls(**values | {"sample_shape": tuple(value["sample_shape"])})

    def as_json(self) -> dict[str, Any]:
        """Return JSON values, whose order and spelling digests of checkpoints depend on."""
        values = {**vars(self), "sample_shape": list(self.sample_shape)}
        return {self.kind if k == "network" else k: v for k, v in values.items()}


def check_keys(
    found: Collection[str], needed: Collection[Any], known: Collection[Any], what: str
) -> None:
    """Refuse keys of which one is missing or unknown.

    Raises:
        DataError: It is; names the key.
    """
    for key in [*needed, *found]:
        if key not in found or key not in known:
            fault = "has the unknown key" if key in found else "lacks the key"
            raise DataError(
                f"{what} {fault} {key!r}: another version of this project wrote it, or it is "
                "damaged."
            )


def build_network(description: ModelDescription) -> nn.Module:
    """Return the raw network of a description.

    Raises:
        ValueError: The network does not fit the latents, or the norm the network.
    """
    kinds = {"mlp": MLPNetwork, "unet": UNetNetwork, "dit": DiTNetwork}
    return kinds[description.kind](
        description.sample_shape,
        norm=description.norm,
        output_norm=description.output_norm,
        dropout=description.dropout,
        num_classes=description.num_classes,
        **description.network,
    )


def build_model(
    description: ModelDescription, *, seed: int = 0, autocast: torch.dtype | None = None
) -> Denoiser:
    """Return a denoiser with fresh weights.

    Args:
        description: Of its network and its boundary condition.
        seed: Seed of the initial weights.
        autocast: Type of the network's matrix products; None leaves them as they are.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(description)
    return Denoiser(
        network,
        sigma_data=description.sigma_data,
        sigma_min=description.boundary,
        autocast=autocast,
    )
