"""From shards of images to shards of latents, in one process or in several, one per GPU.

While a shard is encoded, the one before is written by the dataset in a thread and, in one process,
the next is read in another: the accelerator waits for neither. What is encoded stays on it until
the shard is whole.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lct_pipeline.datasets.autoencoder import AutoencoderDataset
from lct_pipeline.datasets.shard_file import ShardFile
from lct_pipeline.datasets.shards import Shard, ShardStore
from lct_pipeline.errors import ParameterError
from lct_pipeline.models.autoencoder.coding import (
    Autoencoder,
    Precision,
    copy_for_encoding,
    encode,
)
from lct_pipeline.models.batch_sizes import batch_size_for
from lct_pipeline.models.device import choose_device
from lct_pipeline.parameters import Runtime
from lct_pipeline.parameters.data import Encoding
from lct_pipeline.processes.children import check_devices
from lct_pipeline.processes.mapping import Workers, in_threads

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
    encoder = _encoder(task, autoencoder, device)
    read = partial(_read, pinned=device.type == "cuda")
    shards = (task.images.shards[number] for number in numbers)
    for images in in_threads(read, shards, num_workers=1):
        yield Shard(_encoded(encoder, images, task))


def _encoder(
    task: EncodingTask, autoencoder: Autoencoder, device: torch.device
) -> Autoencoder:
    return copy_for_encoding(
        autoencoder, device, task.precision, compiled=task.compiled
    )


def _encoded(
    encoder: Autoencoder, images: Tensor, task: EncodingTask
) -> dict[str, Tensor]:
    tensors = _encode(encoder, images, task.parameters)
    _check(tensors, task)
    return tensors


def _read(shard: ShardFile, *, pinned: bool) -> Tensor:
    """Return the images of a shard; pinned, they are copied to a GPU while it computes."""
    images = torch.from_numpy(shard.arrays["images"])
    return images.pin_memory() if pinned else images


def _encode(
    encoder: Autoencoder, images: Tensor, parameters: Encoding
) -> dict[str, Tensor]:

    # no file of the shard could be used, and no autoencoder takes 0 images
    if len(images) == 0:
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


def encode_in_processes(
    task: EncodingTask, autoencoder: Autoencoder, numbers: range, runtime: Runtime
) -> Generator[Shard]:
    """Yield the latents of the shards ``numbers``, in order, from ``runtime.num_processes``.

    Raises:
        ParameterError: There are fewer GPUs than processes, or the latents are not finite.
        UserError: A process was killed.
    """
    device = choose_device(runtime.device)
    num_processes = min(runtime.num_processes, len(numbers))
    if num_processes <= 1:
        yield from encoded_shards(task, autoencoder, numbers, device)
        return
    check_devices(num_processes, device)
    # by a file: weights that are sent take a descriptor each, and containers have few
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "autoencoder")
        AutoencoderDataset(path=path).save(autoencoder)
        make = partial(_shard_encoder, task, path, device)
        with closing(Workers(make, "encoding", num_processes, device)) as workers:
            for arrays in workers.map(numbers):
                yield Shard({name: torch.from_numpy(z) for name, z in arrays.items()})


def _shard_encoder(
    task: EncodingTask, path: str, device: torch.device
) -> Callable[[int], dict[str, np.ndarray]]:
    """Return what makes latents, as arrays, of the shard of a number."""
    stored = AutoencoderDataset(path=path).load()
    assert stored is not None
    encoder = _encoder(task, stored.model, device)

    def encode_shard(number: int) -> dict[str, np.ndarray]:
        images = _read(task.images.shards[number], pinned=device.type == "cuda")
        return {n: z.numpy() for n, z in _encoded(encoder, images, task).items()}

    return encode_shard
