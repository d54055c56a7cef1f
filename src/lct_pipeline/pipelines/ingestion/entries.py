"""One entry of a source: its pixels, if it is an image that can be used, and its row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lct_pipeline.datasets.sources import RawImage
from lct_pipeline.parameters.data import Ingestion, Splits


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
    from lct_pipeline.datasets.decoding import UndecodableImageError, decode_image

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
