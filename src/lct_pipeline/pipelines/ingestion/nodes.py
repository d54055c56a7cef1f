"""Nodes of the ingestion stage."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from lct_pipeline.data_parameters import Ingestion, Splits
from lct_pipeline.datasets.image_source import ImageSource, RawImage
from lct_pipeline.datasets.shards import Shard, ShardStore, ShardStream
from lct_pipeline.errors import DataError
from lct_pipeline.lazy import pd
from lct_pipeline.parameters import parameters_digest
from lct_pipeline.reporting.progress import track

logger = logging.getLogger(__name__)


def ingest_images(
    image_source: ImageSource, previous_images: ShardStore, parameters: Ingestion
) -> ShardStream:
    """Decode all images into shards; continue after the shards that are already there."""
    digest = parameters_digest(parameters.model_dump())
    fingerprint = f"{image_source.fingerprint}-{digest}"
    num_shards = -(-len(image_source) // images_a_shard(parameters))
    finished = min(previous_images.num_finished_shards(fingerprint), num_shards)
    if finished == num_shards:
        logger.info("All %d images are already ingested.", len(image_source))
    problems = sum(
        row["problem"] is not None for row in previous_images.rows(0, finished)
    )
    shards = _decoded_shards(image_source, parameters, finished, num_shards, problems)
    return ShardStream(fingerprint, shards, first_shard=finished)


def images_a_shard(parameters: Ingestion) -> int:
    """Return how many images are in a shard."""
    return max(1, parameters.shard_mib * 2**20 // (3 * parameters.image_size**2))


def _decoded_shards(
    source: ImageSource, parameters: Ingestion, first: int, last: int, problems: int
) -> Iterator[Shard]:
    """Yield shard after shard; stop where too many files cannot be decoded."""
    allowed = parameters.max_problem_share * len(source)
    size = images_a_shard(parameters)
    for number in track(range(first, last), "ingest", "shard"):
        start = number * size
        shard = _decode_shard(source.read(start, start + size), parameters)
        bad = [row for row in shard.rows if row["problem"] is not None]
        problems += len(bad)
        if problems > allowed:
            raise DataError(
                f"{problems} of the {start + len(shard.rows)} images read so far (of "
                f"{len(source)}) in {parameters.source!r} cannot be decoded, more than "
                f"ingestion.max_problem_share={parameters.max_problem_share} allows. The last: "
                f"{bad[-1]['source']}: {bad[-1]['problem']}."
            )
        yield shard


def _decode_shard(raw_images: Iterator[RawImage], parameters: Ingestion) -> Shard:
    import numpy as np
    import torch

    from lct_pipeline.datasets.decoding import UndecodableImageError, decode_image

    pixels, rows = [], []
    for raw in raw_images:
        row = _row(raw, parameters.splits)
        try:
            pixels.append(
                decode_image(
                    raw.content,
                    size=parameters.image_size,
                    max_pixels=parameters.max_pixels,
                )
            )
        except UndecodableImageError as problem:
            row["problem"] = str(problem)
        rows.append(row)
    size = parameters.image_size
    images = np.stack(pixels) if pixels else np.empty((0, 3, size, size), np.uint8)
    return Shard({"images": torch.from_numpy(images)}, rows)


def _row(raw: RawImage, splits: Splits) -> dict[str, Any]:
    return {
        "source": raw.name,
        "digest": raw.digest,
        "label": raw.label,
        "split": split_of(raw.digest, splits),
        "problem": None,
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


def build_image_manifest(images: ShardStore) -> pd.DataFrame:
    """Return one row per source entry; ``index`` is the image's place in the shards.

    Raises:
        DataError: A split has fewer than two images.
    """
    manifest = pd.DataFrame(images.rows())
    usable = manifest["problem"].isna()
    manifest.insert(0, "index", usable.cumsum().sub(1).where(usable).astype("Int64"))
    if not usable.all():
        logger.warning(
            "%d of %d images cannot be decoded and are left out: see column `problem` of the "
            "image manifest.",
            (~usable).sum(),
            len(manifest),
        )
    _check_splits(manifest.loc[usable, "split"])
    return manifest


def _check_splits(split: pd.Series) -> None:
    counts = {
        name: int((split == name).sum()) for name in ("train", "validation", "test")
    }
    logger.info("Images by split: %s.", counts)
    for name, count in counts.items():
        if count < 2:
            raise DataError(
                f"the {name} split has {count} of {len(split)} images and needs at least 2: give "
                "more images or other shares in ingestion.splits."
            )
