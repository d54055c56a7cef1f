"""From the entries of a source to shards of pixels, going on after those that are there."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
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

_MOST_ROWS = 2**13  # of a shard: they are in memory while it is filled

_SIXTEENTH = 16  # of 256 levels: what 12 bits come to where 16 are stored

_ROW = pa.schema(
    [
        ("source", pa.string()),
        ("digest", pa.string()),
        ("label", pa.string()),
        ("split", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("problem", pa.string()),
    ]
)


def image_stream(
    image_source: ImageSource,
    previous_images: ShardStore,
    parameters: Ingestion,
    runtime: Runtime,
) -> ShardStream:
    """Decode all images into shards; continue after the shards that are already there.

    A shard is made from the part of the source that is in it, and from the parameters.
    """
    size, num_images = images_a_shard(parameters), len(image_source)
    how = parameters_digest(parameters.model_dump())
    made_from = [
        f"{image_source.fingerprint_of(start, start + size)}-{how}"
        for start in range(0, num_images, size)
    ]
    finished = previous_images.num_finished_shards(made_from)
    rows = previous_images.rows(finished)
    problems = sum(len(part) - part["problem"].null_count for part in rows)
    shards = _shards(
        image_source, parameters, runtime, finished, made_from[finished:], problems
    )
    whole = f"{image_source.fingerprint}-{how}"
    return ShardStream(whole, shards, first_shard=finished)


def images_a_shard(parameters: Ingestion) -> int:
    """Return how many images are in a shard."""
    of_pixels = parameters.shard_mib * 2**20 // (3 * parameters.image_size**2)
    return min(max(1, of_pixels), _MOST_ROWS)


class Entry(NamedTuple):
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
    row = {"source": raw.name, "label": raw.label, "problem": raw.problem}
    if raw.problem is not None:
        return Entry(None, row)
    row["digest"] = digest = raw.digest
    try:
        decoded = decode_image(
            raw.content,
            size=parameters.image_size,
            min_side=parameters.min_side,
            max_pixels=parameters.max_pixels,
        )
    except UndecodableImageError as problem:
        return Entry(None, row | {"problem": str(problem)})
    size = {"width": decoded.width, "height": decoded.height}
    return Entry(
        decoded.pixels, row | size | {"split": split_of(digest, parameters.splits)}
    )


def split_of(digest: str, splits: Splits) -> str:
    """Return the split of an image, from its content alone.

    The same image is in the same split whatever else is in the source, so copies of it cannot be
    in two.
    """
    place = int(digest[:12], 16) / 16**12
    if place < splits.test:
        return "test"
    return "validation" if place < splits.test + splits.validation else "train"


def _is_worth_a_thread(raw: RawImage) -> bool:
    content = raw.content
    num_bytes = len(content) if isinstance(content, bytes) else content.nbytes
    return _SMALL_FILE < num_bytes < _LARGE_FILE


def _shards(
    source: ImageSource,
    parameters: Ingestion,
    runtime: Runtime,
    finished: int,
    made_from: list[str],
    problems: int,
) -> Iterator[Shard]:
    """Yield the shards that follow ``finished`` ones, with these fingerprints.

    ``problems`` is the number of earlier entries that cannot be used.
    """
    size, side, total = images_a_shard(parameters), parameters.image_size, len(source)
    num_done = min(finished * size, total)
    if num_done:
        logger.info("%d of %d images are already ingested.", num_done, total)
    entries = in_threads(
        partial(ingest_entry, parameters=parameters),
        source.read(num_done, total),
        runtime.num_workers,
        worth_a_thread=_is_worth_a_thread,
    )
    with closing(entries):
        progress = track(
            entries,
            "ingest",
            "image",
            silent=num_done == total,
            total=total,
            initial=num_done,
        )
        usable = _refuse_many(progress, source, parameters, num_done, problems)
        num_dark = 0
        for fingerprint in made_from:
            images = torch.empty(
                (min(size, total - num_done), 3, side, side), dtype=torch.uint8
            )
            rows, count = _fill(images.numpy(), usable)
            num_done += len(rows)
            num_dark += int((images[:count].amax((1, 2, 3)) <= _SIXTEENTH).sum())
            table = pa.Table.from_pylist(rows, _ROW)
            yield Shard({"images": images[:count]}, table, fingerprint)
        if num_dark:
            logger.warning(
                "%d images have no value above a sixteenth of their range. If they look black, "
                "their samples have fewer bits than their files (12 in 16, or 0 and 1): scale "
                "them to the whole range.",
                num_dark,
            )


def _fill(
    images: np.ndarray, entries: Iterator[Entry]
) -> tuple[list[dict[str, Any]], int]:
    """Lay the pixels of the next entries into an array; return their rows and how many have any."""
    rows, count = [], 0
    for entry in islice(entries, len(images)):
        rows.append(entry.row)
        if entry.pixels is not None:
            images[count] = entry.pixels
            count += 1
    return rows, count


def _refuse_many(
    entries: Iterable[Entry],
    source: ImageSource,
    parameters: Ingestion,
    num_done: int,
    problems: int,
) -> Iterator[Entry]:
    """Yield the entries behind ``num_done`` others, of which some have problems.

    Raises:
        DataError: More files cannot be used than ``max_problem_share`` allows, or there are fewer
            than the source announced.
    """
    for entry in entries:
        num_done += 1
        problems += entry.pixels is None
        if problems > parameters.max_problem_share * len(source):
            raise DataError(
                f"{problems} of the {num_done} images read so far (of {len(source)}) in "
                f"{parameters.source!r} cannot be used, more than ingestion.max_problem_share="
                f"{parameters.max_problem_share} allows. The last: {entry.row['source']}: "
                f"{entry.row['problem']}."
            )
        yield entry
    if num_done < len(source):
        raise DataError(
            f"{parameters.source!r} ended after {num_done} of {len(source)} images."
        )
