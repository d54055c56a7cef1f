"""From the entries of a source to shards of pixels, going on after those that are there."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from lct_pipeline.datasets.decoding import UndecodableImageError, decode_image
from lct_pipeline.datasets.shards import Shard, ShardStore, ShardStream
from lct_pipeline.datasets.sources import ImageSource, RawImage
from lct_pipeline.errors import DataError
from lct_pipeline.parameters import Runtime, parameters_digest
from lct_pipeline.parameters.data import Ingestion, Splits
from lct_pipeline.processes.mapping import in_threads
from lct_pipeline.progress import track

logger = logging.getLogger(__name__)

# Smaller files are decoded before a thread would have begun, and decoding them holds the
# interpreter's lock for most of the time. Larger ones would need their size for each in flight.
_SMALL_FILE, _LARGE_FILE = 8 * 2**10, 16 * 2**20

_MOST_ROWS = 2**13  # of a shard: a safetensors header has 100 MB at most


def image_stream(
    image_source: ImageSource,
    previous_images: ShardStore,
    parameters: Ingestion,
    runtime: Runtime,
) -> ShardStream:
    """Decode all images into shards; continue after the shards that are already there."""
    made_from = _Fingerprints(image_source, parameters)
    finished = previous_images.num_finished_shards(made_from.of_shards())
    start = min(finished * images_a_shard(parameters), len(image_source))
    _tell(start, len(image_source))
    problems = sum(
        row["problem"] is not None for row in previous_images.rows(0, finished)
    )
    made_from_each = made_from.of_shards(finished)
    shards = _shards(image_source, parameters, runtime, start, problems, made_from_each)
    return ShardStream(made_from.whole, shards, first_shard=finished)


class _Fingerprints:
    """What images are made from: the source, or the part of it in a shard, and the parameters."""

    def __init__(self, source: ImageSource, parameters: Ingestion) -> None:
        self._source, self._size = source, images_a_shard(parameters)
        self._digest = parameters_digest(parameters.model_dump())
        self.whole = f"{source.fingerprint}-{self._digest}"

    def of_shards(self, first: int = 0) -> Iterator[str]:
        """Yield the fingerprint of each shard, from the first one that is asked for."""
        for start in range(first * self._size, len(self._source), self._size):
            part = self._source.fingerprint_of(start, start + self._size)
            yield f"{part}-{self._digest}"


def _tell(num_done: int, num_images: int) -> None:
    if num_done == num_images:
        logger.info("All %d images are already ingested.", num_images)
    elif num_done:
        logger.info("%d of %d images are already ingested.", num_done, num_images)


def images_a_shard(parameters: Ingestion) -> int:
    """Return how many images are in a shard; their rows lie in a header of bounded size."""
    of_pixels = parameters.shard_mib * 2**20 // (3 * parameters.image_size**2)
    return min(max(1, of_pixels), _MOST_ROWS)


def _shards(
    source: ImageSource,
    parameters: Ingestion,
    runtime: Runtime,
    start: int,
    problems: int,
    made_from: Iterator[str],
) -> Iterator[Shard]:
    """Yield shard after shard from entry ``start`` on.

    ``problems`` is the number of entries before it that cannot be used, ``made_from`` the
    fingerprint of each shard.

    Raises:
        DataError: More files cannot be used than ``max_problem_share`` allows, or there are fewer
            than the source announced.
    """
    entries = in_threads(
        partial(ingest_entry, parameters=parameters),
        source.read(start, len(source)),
        runtime.num_workers,
        worth_a_thread=_is_worth_a_thread,
    )
    progress = track(
        entries,
        "ingest",
        "image",
        silent=start == len(source),
        total=len(source),
        initial=start,
    )
    with closing(entries):
        shard, num_done = _ShardUnderWay(parameters, len(source) - start), start
        for entry in progress:
            num_done += 1
            shard.add(entry)
            problems += entry.pixels is None
            if problems > parameters.max_problem_share * len(source):
                raise _too_many_problems(
                    problems, num_done, entry.row, source, parameters
                )
            if shard.is_full:
                yield shard.finish(next(made_from))
                shard = _ShardUnderWay(parameters, len(source) - num_done)
    if num_done < len(source):
        raise DataError(
            f"{parameters.source!r} ended after {num_done} of {len(source)} images."
        )


def _is_worth_a_thread(raw: RawImage) -> bool:
    num_bytes = (
        len(raw.content) if isinstance(raw.content, bytes) else raw.content.nbytes
    )
    return _SMALL_FILE < num_bytes < _LARGE_FILE


class _ShardUnderWay:
    """The next shard: its pixels are laid into one array as they come.

    Args:
        parameters: Size of the images, and of a shard.
        num_left: How many entries there are from its first on.
    """

    def __init__(self, parameters: Ingestion, num_left: int) -> None:
        self._size = min(images_a_shard(parameters), num_left)
        side = parameters.image_size
        self._images = torch.empty((self._size, 3, side, side), dtype=torch.uint8)
        self._pixels = self._images.numpy()
        self._count = 0
        self._rows: list[dict[str, Any]] = []

    def add(self, entry: Entry) -> None:
        """Append an entry: its row, and its pixels if it has any."""
        self._rows.append(entry.row)
        if entry.pixels is not None:
            self._pixels[self._count] = entry.pixels
            self._count += 1

    @property
    def is_full(self) -> bool:
        """Whether all its entries are there."""
        return len(self._rows) == self._size

    def finish(self, made_from: str) -> Shard:
        """Return the shard, which was made from what has this fingerprint."""
        return Shard({"images": self._images[: self._count]}, self._rows, made_from)


def _too_many_problems(
    problems: int,
    num_done: int,
    last: dict[str, Any],
    source: ImageSource,
    parameters: Ingestion,
) -> DataError:
    return DataError(
        f"{problems} of the {num_done} images read so far (of {len(source)}) in "
        f"{parameters.source!r} cannot be used, more than ingestion.max_problem_share="
        f"{parameters.max_problem_share} allows. The last: {last['source']}: {last['problem']}."
    )


@dataclass(frozen=True)
class Entry:
    """What becomes of one entry of a source.

    Attributes:
        pixels: ``(3, image_size, image_size)``, uint8; None where there is a problem.
        row: What the manifest says of it.
    """

    pixels: np.ndarray | None
    row: dict[str, Any]


def ingest_entry(raw: RawImage, parameters: Ingestion) -> Entry:
    """Return an entry decoded and digested, or with the problem that it has.

    What has a problem is in no split; what was not read at all has no digest.
    """
    if raw.problem is not None:
        return Entry(None, _row(raw, None, raw.problem))
    digest = raw.digest
    try:
        decoded = decode_image(
            raw.content,
            size=parameters.image_size,
            min_side=parameters.min_side,
            max_pixels=parameters.max_pixels,
        )
    except UndecodableImageError as problem:
        return Entry(None, _row(raw, digest, str(problem)))
    row = _row(raw, digest, None)
    row["split"] = split_of(digest, parameters.splits)
    row["width"], row["height"] = decoded.width, decoded.height
    return Entry(decoded.pixels, row)


def _row(raw: RawImage, digest: str | None, problem: str | None) -> dict[str, Any]:
    return {
        "source": raw.name,
        "digest": digest,
        "label": raw.label,
        "split": None,
        "width": None,
        "height": None,
        "problem": problem,
    }


def split_of(digest: str, splits: Splits) -> str:
    """Return the split of an image, from its content alone.

    The same image is in the same split whatever else is in the source, so copies of it cannot be
    in two.
    """
    place = int(digest[:12], 16) / 16**12
    if place < splits.test:
        return "test"
    return "validation" if place < splits.test + splits.validation else "train"
