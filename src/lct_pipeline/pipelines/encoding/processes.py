"""Encoding in one process, or in several that take shards in turn, one per GPU."""

from __future__ import annotations

import tempfile
from collections.abc import Generator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from lct_pipeline.datasets.autoencoder import AutoencoderDataset
from lct_pipeline.datasets.shards import Shard
from lct_pipeline.models.device import choose_device
from lct_pipeline.parameters import Runtime
from lct_pipeline.pipelines.encoding.worker import EncodingTask, encoded_shards
from lct_pipeline.processes.launching import Handover, Launch, check_devices, launched

if TYPE_CHECKING:
    from lct_pipeline.core.ranks import Ranks
    from lct_pipeline.models.autoencoder.coding import Autoencoder

NUM_AHEAD = 1  # shards that a process hands over before the first is written; it computes another


def encode_in_processes(
    task: EncodingTask, autoencoder: Autoencoder, numbers: range, runtime: Runtime
) -> Generator[Shard]:
    """Yield the latents of the shards ``numbers``, in order, from ``runtime.num_processes``.

    Raises:
        ParameterError: There are fewer GPUs than processes, or the latents are not finite.
        UserError: A process failed.
    """
    import torch

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
            work=_encode,
            arguments=(task, path, numbers),
            title="encoding",
            num_processes=num_processes,
            device=device,
            num_threads=runtime.num_threads,
            num_ahead=NUM_AHEAD,
        )
        for arrays in launched(launch):
            yield Shard({name: torch.from_numpy(z) for name, z in arrays.items()})


def _encode(
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
