"""The work of one encoding process: from shards of images to shards of latents.

While a shard is encoded the next one is read in a thread, and the one before is written by the
dataset in another: the accelerator waits for neither. What is encoded stays on it until the shard
is whole.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from lct_pipeline.datasets.shard_file import ShardFile
from lct_pipeline.datasets.shards import Shard, ShardStore
from lct_pipeline.errors import ParameterError
from lct_pipeline.models.batch_sizes import batch_size_for
from lct_pipeline.parameters.data import Encoding
from lct_pipeline.processes.threads import ordered_map

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from lct_pipeline.models.autoencoder.coding import Autoencoder, Precision

MIRRORED = "_flipped"  # ends the names of the mirror images' tensors


@dataclass(frozen=True)
class EncodingTask:
    """What to encode and how; can be sent to another process."""

    images: ShardStore
    precision: Precision
    parameters: Encoding
    compiled: bool


def encoded_shards(
    task: EncodingTask,
    autoencoder: Autoencoder,
    numbers: Iterable[int],
    device: torch.device,
) -> Iterator[Shard]:
    """Yield the latents of the shards ``numbers``: ``mean`` and ``std`` of the posteriors.

    Raises:
        ParameterError: They are not finite, or not in float16.
    """
    from lct_pipeline.models.autoencoder.coding import copy_for_encoding

    encoder = copy_for_encoding(
        autoencoder, device, task.precision, compiled=task.compiled
    )
    read = partial(_read, pinned=device.type == "cuda")
    shards = (task.images.shards[number] for number in numbers)
    for images in ordered_map(read, shards, num_workers=1):
        tensors = _encode(encoder, images, task.parameters)
        _check(tensors, task)
        yield Shard(tensors)


def _read(shard: ShardFile, *, pinned: bool) -> Tensor:
    """Return the images of a shard; pinned, they are copied to a GPU while it computes."""
    import torch

    images = torch.from_numpy(shard.arrays["images"])
    return images.pin_memory() if pinned else images


def _encode(
    encoder: Autoencoder, images: Tensor, parameters: Encoding
) -> dict[str, Tensor]:
    import torch

    from lct_pipeline.models.autoencoder.coding import encode

    if (
        len(images) == 0
    ):  # no file of the shard could be used, and no autoencoder takes 0 images
        one = images.new_zeros(1, *images.shape[1:])
        return {name: z[:0] for name, z in _encode(encoder, one, parameters).items()}
    parts: dict[str, list[Tensor]] = defaultdict(list)
    dtype = getattr(torch, parameters.stored_as)
    size = batch_size_for(parameters.batch_size, images.shape[1:], encoder.device)
    for batch in images.split(size):
        for ending, side in _sides(
            batch.to(encoder.device, non_blocking=True), parameters
        ):
            mean, std = encode(encoder, side)
            parts[f"mean{ending}"].append(mean.to(dtype))
            parts[f"std{ending}"].append(std.to(dtype))
    return {name: torch.cat(tensors).cpu() for name, tensors in parts.items()}


def _sides(batch: Tensor, parameters: Encoding) -> Iterator[tuple[str, Tensor]]:
    yield "", batch
    if parameters.horizontal_flips:
        yield MIRRORED, batch.flip(-1)


def _check(tensors: dict[str, Tensor], task: EncodingTask) -> None:
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ParameterError(
                f"the latents ({name}) are not finite, computed in {task.precision} and stored as "
                f"{task.parameters.stored_as}: give encoding.precision=float32 and "
                "encoding.stored_as=float32, or another autoencoder."
            )
