"""What a checkpoint says about its model: enough to build it and to generate with it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from lct_pipeline.errors import DataError


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
