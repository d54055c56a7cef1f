"""From a training step to its latents: which images, drawn from their posteriors, normalised."""

from __future__ import annotations

import numpy as np
import torch
from pandas import DataFrame
from torch import Tensor

from lct_pipeline.core.batches import EpochOrder
from lct_pipeline.core.randomness import derived_generator
from lct_pipeline.datasets.decoder import normalisation_of
from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.datasets.splits import indices_of, usable_rows
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.parameters.training import Training

FLIPPED = "_flipped"
CPU_BYTES = 2**30


class LatentReader:
    """Returns the normalised latents ``(B, C, H, W)`` and classes ``(B,)`` of a step.

    Items are the images of the training split and, where they were encoded, their mirror images.

    Args:
        latents: The posteriors.
        latent_manifest: Their rows.
        latent_normalisation: Mean and standard deviation per position.
        class_counts: Training images of each class; empty for a model without classes.
        parameters: The training's parameters.
        device: Where to.
        on_device: Keep the posteriors of the training split on ``device``, if they fit there.
    """

    def __init__(
        self,
        latents: ShardStore,
        latent_manifest: DataFrame,
        latent_normalisation: TensorFile,
        class_counts: dict[str, int],
        parameters: Training,
        device: torch.device,
        *,
        on_device: bool,
    ) -> None:
        self._latents = latents
        self._device = device
        self._parameters = parameters
        self._indices = indices_of(latent_manifest, "train")
        self._num_classes = len(class_counts)
        self._labels: Tensor | None = None
        if class_counts:
            codes = {name: code for code, name in enumerate(class_counts)}
            labels = usable_rows(latent_manifest, "train")["label"]
            self._labels = torch.tensor([codes[str(label)] for label in labels])
        self._normalisation = normalisation_of(latent_normalisation).to(device)
        self._sides = ("", FLIPPED)[: 1 + has_flips(latents)]
        num_items = len(self._indices) * len(self._sides)
        self._order = EpochOrder(num_items, parameters.batch_size, parameters.seed)
        kept = on_device and fits_beside_the_model(latents, len(self._indices), device)
        self._resident = {
            name: self._whole(name).to(device) if kept else None
            for name in ("mean", "std")
        }

    def __call__(self, step: int) -> tuple[Tensor, Tensor | None]:
        """Return latents and classes of a step."""
        items = self._order.batch(step)
        means, stds = self._gather("mean", items), self._gather("std", items)
        noise = self._posterior_noise(step, items, means.shape[1:])
        x = self._normalisation.normalise(means + stds * noise.to(self._device))
        return x, self._classes(step, items)

    def _gather(self, name: str, items: np.ndarray) -> Tensor:
        """Return the records of items, of either side."""
        resident = self._resident[name]
        if resident is not None:
            return resident[torch.from_numpy(items).to(self._device)]
        sides, places = divmod(items, len(self._indices))
        of_sides = [
            self._latents.gather(name + side, self._indices[places])
            for side in self._sides
        ]
        flipped = torch.from_numpy(sides == 1).reshape(-1, 1, 1, 1)
        return torch.where(flipped, of_sides[-1], of_sides[0]).to(self._device)

    def _whole(self, name: str) -> Tensor:
        return torch.cat(
            [self._latents.gather(name + side, self._indices) for side in self._sides]
        )

    def _posterior_noise(
        self, step: int, items: np.ndarray, shape: torch.Size
    ) -> Tensor:
        """Return new noise at each step, or the same for an image each time it is seen."""
        seed = self._parameters.seed
        if self._parameters.resample_posterior:
            generator = derived_generator(seed, "posterior", step)
            return torch.randn(len(items), *shape, generator=generator)
        return torch.stack([self._noise_of(int(item), shape) for item in items])

    def _noise_of(self, item: int, shape: torch.Size) -> Tensor:
        side, place = divmod(item, len(self._indices))
        purpose = "posterior" + side * FLIPPED
        image = int(self._indices[place])
        generator = derived_generator(self._parameters.seed, purpose, image)
        return torch.randn(*shape, generator=generator)

    def _classes(self, step: int, items: np.ndarray) -> Tensor | None:
        """Return the classes, a share of them hidden behind the null class."""
        if self._labels is None:
            return None
        labels = self._labels[torch.from_numpy(items % len(self._indices))]
        generator = derived_generator(self._parameters.seed, "labels", step)
        hidden = torch.rand(len(labels), generator=generator)
        share = self._parameters.network.label_dropout
        return torch.where(hidden < share, self._num_classes, labels).to(self._device)


def has_flips(latents: ShardStore) -> bool:
    """Return whether mirror images were encoded too."""
    return f"mean{FLIPPED}" in latents.shards[0].names


def fits_beside_the_model(
    latents: ShardStore, num_items: int, device: torch.device
) -> bool:
    """Return whether the posteriors of ``num_items`` images take less than half of a GPU's rest.

    On a CPU, less than 1 GiB: more stay in their files, and in the system's cache of them.
    """
    num_bytes = num_items * latents.shards[0].record_bytes
    if device.type == "cuda":
        return num_bytes < torch.cuda.mem_get_info(device)[0] / 2
    return device.type == "cpu" and num_bytes < CPU_BYTES
