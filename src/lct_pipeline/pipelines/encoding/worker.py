"""From shards of images to shards of latents, in one process or in several, one per GPU.

Several take shards in turn. While a shard is encoded the next one is read in a thread, and the one
before is written by the dataset in another: the accelerator waits for neither. What is encoded
stays on it until the shard is whole.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

import torch
from torch import Tensor

from lct_pipeline.core.ranks import Ranks
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
from lct_pipeline.processes.launching import Handover, Launch, check_devices, launched
from lct_pipeline.processes.threads import ordered_map

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


NUM_AHEAD = 1  # shards that a process hands over before the first is written; it computes another


def encode_in_processes(
    task: EncodingTask, autoencoder: Autoencoder, numbers: range, runtime: Runtime
) -> Generator[Shard]:
    """Yield the latents of the shards ``numbers``, in order, from ``runtime.num_processes``.

    Raises:
        ParameterError: There are fewer GPUs than processes, or the latents are not finite.
        UserError: A process failed.
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
        launch = Launch(
            work=_encode_in_turn,
            arguments=(task, path, numbers),
            title="encoding",
            num_processes=num_processes,
            device=device,
            num_threads=runtime.num_threads,
            num_ahead=NUM_AHEAD,
        )
        for arrays in launched(launch):
            yield Shard({name: torch.from_numpy(z) for name, z in arrays.items()})


def _encode_in_turn(
    ranks: Ranks,
    handover: Handover,
    task: EncodingTask,
    path: str,
    numbers: range,
) -> None:
    """Encode each ``ranks.num_processes``-th shard and hand it over."""
    stored = AutoencoderDataset(path=path).load()
    assert stored is not None
    own = numbers[ranks.rank :: ranks.num_processes]
    shards = encoded_shards(task, stored.model, own, ranks.device)
    places = count(ranks.rank, ranks.num_processes)
    for place, shard in zip(places, shards, strict=False):
        arrays = {name: z.numpy() for name, z in shard.tensors.items()}
        if not handover.give(ranks.rank, place, arrays):
            return
