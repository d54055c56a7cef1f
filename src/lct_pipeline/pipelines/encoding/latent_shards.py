"""From shards of images to shards of latents, in one process or in several, one per GPU.

While a shard is encoded, the one before is written by the dataset in a thread and, in one process,
the next is read in another: the accelerator waits for neither. What is encoded stays on it until
the shard is whole.
"""

from __future__ import annotations

import logging
import tempfile
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from pandas import DataFrame
from torch import Tensor

from lct_pipeline.core.normalisation import PosteriorMoments
from lct_pipeline.datasets.autoencoder import AutoencoderDataset, StoredAutoencoder
from lct_pipeline.datasets.shards import Shard, ShardStore, ShardStream
from lct_pipeline.datasets.splits import indices_of
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import ParameterError
from lct_pipeline.models.autoencoder import (
    Autoencoder,
    Precision,
    automatic_precision,
    copy_for_encoding,
    encode,
)
from lct_pipeline.models.device import batch_size_for, choose_device
from lct_pipeline.parameters import Runtime
from lct_pipeline.parameters.data import Encoding
from lct_pipeline.parameters.training import Noise
from lct_pipeline.processes.children import check_devices
from lct_pipeline.processes.mapping import Workers, in_threads
from lct_pipeline.progress import track

logger = logging.getLogger(__name__)

MIRRORED = "_flipped"  # ends the names of the mirror images' tensors


@dataclass(frozen=True)
class EncodingTask:
    """What to encode and how; can be sent to another process."""

    images: ShardStore
    parameters: Encoding
    precision: Precision
    device: torch.device
    compiled: bool

    def fingerprint(self, images: str | None, autoencoder: str) -> str:
        """Return that of the latents of images, made from both."""
        parts = {
            MIRRORED: self.parameters.horizontal_flips,
            "_bfloat16": self.precision == "bfloat16",
            "_float16": self.parameters.stored_as == "float16",
        }
        how = "".join(part for part, applies in parts.items() if applies)
        return f"{images}{how}-{autoencoder}"

    def encoder(self, autoencoder: Autoencoder) -> Autoencoder:
        """Return a copy of an autoencoder for :meth:`encode`."""
        return copy_for_encoding(
            autoencoder, self.device, self.precision, compiled=self.compiled
        )

    def read(self, number: int) -> Tensor:
        """Return the images of a shard; pinned, they are copied to a GPU while it computes."""
        images = torch.from_numpy(self.images.shards[number].arrays["images"])
        return images.pin_memory() if self.device.type == "cuda" else images

    def encode(self, encoder: Autoencoder, images: Tensor) -> dict[str, Tensor]:
        """Return ``mean`` and ``std`` of the posteriors of images ``(N, 3, H, W)``, N >= 0.

        Raises:
            ParameterError: They are not finite, or not in float16.
        """
        if len(images) == 0:  # none of the shard could be used; no autoencoder takes 0
            one = images.new_zeros(1, *images.shape[1:])
            return {name: z[:0] for name, z in self.encode(encoder, one).items()}
        parts: dict[str, list[Tensor]] = defaultdict(list)
        dtype = getattr(torch, self.parameters.stored_as)
        size = batch_size_for(
            self.parameters.batch_size, images.shape[1:], encoder.device
        )
        for batch in images.split(size):
            sides = {"": batch.to(encoder.device, non_blocking=True)}
            if self.parameters.horizontal_flips:
                sides[MIRRORED] = sides[""].flip(-1)
            for ending, side in sides.items():
                mean, std = encode(encoder, side)
                parts[f"mean{ending}"].append(mean.to(dtype))
                parts[f"std{ending}"].append(std.to(dtype))
        tensors = {name: torch.cat(part).cpu() for name, part in parts.items()}
        self._check(tensors)
        return tensors

    def _check(self, tensors: dict[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            if not tensor.isfinite().all():
                raise ParameterError(
                    f"the latents ({name}) are not finite, computed in {self.precision} and "
                    f"stored as {self.parameters.stored_as}: give encoding.precision=float32 and "
                    "encoding.stored_as=float32, or another autoencoder."
                )


def latent_stream(
    images: ShardStore,
    autoencoder: StoredAutoencoder,
    previous_latents: ShardStore,
    parameters: Encoding,
    runtime: Runtime,
) -> ShardStream:
    """Encode shard by shard; continue after the shards that are already there.

    ``precision: auto`` goes on in the precision of those, so that latents of a GPU stay of use on a
    machine without one.
    """
    device = choose_device(runtime.device)
    plans = []
    for precision in _precisions(parameters, device):
        task = EncodingTask(images, parameters, precision, device, runtime.compile)
        digests = (shard.digest for shard in images.shards)
        made_from = [task.fingerprint(digest, autoencoder.digest) for digest in digests]
        finished = previous_latents.num_finished_shards(made_from)
        plans.append((finished, task, made_from))
    finished, task, made_from = max(plans, key=lambda plan: plan[0])  # first of equals
    logger.info(
        "Encoding %d images in %s on %s; %d of %d shards are already there.",
        len(images),
        task.precision,
        device,
        finished,
        len(made_from),
    )
    numbers = range(finished, len(made_from))
    latents = _latents(task, autoencoder.model, numbers, runtime.num_processes)
    shards = _tracked(latents, made_from[finished:])
    whole = task.fingerprint(images.fingerprint, autoencoder.digest)
    return ShardStream(whole, shards, first_shard=finished)


def _precisions(parameters: Encoding, device: torch.device) -> tuple[Precision, ...]:
    """Return what the latents may be computed in; new ones are in the first."""
    if parameters.precision != "auto":
        return (parameters.precision,)
    if automatic_precision(device) == "float32":
        return "float32", "bfloat16"
    return "bfloat16", "float32"


def _tracked(
    latents: Generator[dict[str, Tensor]], made_from: list[str]
) -> Iterator[Shard]:
    """Yield shards behind a progress bar; close them, and their processes, at the end."""
    left = len(made_from)
    with closing(latents):
        bar = track(latents, "encode", "shard", silent=left == 0, total=left)
        for fingerprint, tensors in zip(made_from, bar, strict=True):
            yield Shard(tensors, fingerprint=fingerprint)


def _latents(
    task: EncodingTask, autoencoder: Autoencoder, numbers: range, num_processes: int
) -> Generator[dict[str, Tensor]]:
    """Yield the latents of the shards ``numbers``, in order.

    Raises:
        ParameterError: There are fewer GPUs than processes, or the latents are not finite.
        UserError: A process was killed.
    """
    num_processes = min(num_processes, len(numbers))
    if num_processes <= 1:
        encoder = task.encoder(autoencoder)
        for images in in_threads(task.read, numbers, num_workers=1):
            yield task.encode(encoder, images)
        return
    check_devices(num_processes, task.device)
    # by a file: weights that are sent take a descriptor each, and containers have few
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "autoencoder")
        AutoencoderDataset(path=path).save(autoencoder)
        make = partial(_shard_encoder, task, path)
        work = Workers(make, "encoding", num_processes, task.device)
        with closing(work) as workers:
            for arrays in workers.map(numbers):
                yield {name: torch.from_numpy(z) for name, z in arrays.items()}


def _shard_encoder(
    task: EncodingTask, path: str
) -> Callable[[int], dict[str, np.ndarray]]:
    """Return what makes latents, as arrays, of the shard of a number."""
    stored = AutoencoderDataset(path=path).load()
    assert stored is not None
    encoder = task.encoder(stored.model)

    def encode_shard(number: int) -> dict[str, np.ndarray]:
        latents = task.encode(encoder, task.read(number))
        return {name: z.numpy() for name, z in latents.items()}

    return encode_shard


def latent_manifest(latents: ShardStore, image_manifest: DataFrame) -> DataFrame:
    """Return one row per latent, in the order of the shards."""
    usable = image_manifest[image_manifest["index"].notna()]
    columns = ["index", "source", "digest", "label", "split"]
    counts = [shard.num_items for shard in latents.shards]
    shard_of = np.repeat(np.arange(len(counts)), counts)
    return usable[columns].assign(shard=shard_of).reset_index(drop=True)


def measure_normalisation(
    latents: ShardStore, latent_manifest: DataFrame, parameters: Encoding, noise: Noise
) -> TensorFile:
    """Reduce the training split to mean and standard deviation at every position.

    Mirror images count as images of their own where there are latents of them.
    """
    indices = indices_of(latent_manifest, "train")
    shape = latents.shards[0].record_shape("mean")
    size = batch_size_for(parameters.batch_size, shape)
    moments = PosteriorMoments(shape)
    for ending in ("", MIRRORED) if parameters.horizontal_flips else ("",):
        means, stds = (
            latents.batches(f"{name}{ending}", size, indices)
            for name in ("mean", "std")
        )
        for batch in zip(means, stds, strict=True):
            moments.update(*batch)
    normalisation = moments.normalisation(noise.sigma_data)
    return TensorFile(
        {"mean": normalisation.mean, "std": normalisation.std},
        {"sigma_data": noise.sigma_data, "num_images": moments.count},
    )
