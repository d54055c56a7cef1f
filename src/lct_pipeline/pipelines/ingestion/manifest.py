"""The manifest of the images: one row for each entry of the source."""

from __future__ import annotations

import logging
from typing import Any

import pandas as pd
import pyarrow as pa
from pandas import DataFrame

from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.datasets.splits import SPLITS
from lct_pipeline.errors import DataError
from lct_pipeline.parameters.data import Ingestion

logger = logging.getLogger(__name__)

MAX_REASONS = 8  # of problems, the most frequent


def image_manifest(images: ShardStore, parameters: Ingestion) -> DataFrame:
    """Return one row per source entry; ``index`` is the image's place in the shards.

    ``duplicate_of`` names the first image with the same content, null in that one and in all that
    have no copy. With ``ingestion.duplicates=drop`` copies are in no split.

    Raises:
        DataError: A split has fewer than two images.
    """
    rows = pa.concat_tables(shard.rows for shard in images.shards)
    manifest = rows.to_pandas().astype({"width": "Int32", "height": "Int32"})
    usable = manifest["problem"].isna()
    manifest.insert(0, "index", usable.cumsum().sub(1).where(usable).astype("Int64"))
    manifest["duplicate_of"] = _originals(manifest, usable)
    copies = manifest["duplicate_of"].notna()
    if parameters.duplicates == "drop":
        manifest["split"] = manifest["split"].mask(copies)
    _report(manifest, int(copies.sum()), parameters)
    _check_splits(manifest)
    return manifest


def _originals(manifest: DataFrame, usable: pd.Series) -> pd.Series:
    """Return the name of the first image with the same content, null for that one itself."""
    known = manifest[usable]
    first = known.groupby("digest")["source"].transform("first")
    copies = first[known["digest"].duplicated()]
    return copies.astype("string").reindex(manifest.index)


def _counts(manifest: DataFrame) -> dict[str, int]:
    """Return the number of images of each split."""
    return {name: int((manifest["split"] == name).sum()) for name in SPLITS}


def _report(manifest: DataFrame, num_copies: int, parameters: Ingestion) -> None:
    problems = manifest["problem"].dropna()
    if len(problems):
        logger.warning(
            "%d of %d images cannot be used and are left out: see column `problem` of the image "
            "manifest.",
            len(problems),
            len(manifest),
        )
    if num_copies:
        logger.info(
            "%d images are exact copies of others (column `duplicate_of`) and are %s.",
            num_copies,
            "kept" if parameters.duplicates == "keep" else "in no split",
        )


def _check_splits(manifest: DataFrame) -> None:
    counts = _counts(manifest)
    logger.info("Images by split: %s.", counts)
    for name, count in counts.items():
        if count < 2:
            raise DataError(
                f"the {name} split has {count} of {manifest['split'].count()} images and needs at "
                "least 2: give more images or other shares in ingestion.splits."
            )


def record_of(manifest: DataFrame) -> dict[str, Any]:
    """Return how many images there are by split, why others cannot be used, and how many copies."""
    reasons = manifest["problem"].dropna().value_counts().head(MAX_REASONS)
    return {
        "num_entries": len(manifest),
        "splits": _counts(manifest),
        "problems": {str(reason): int(count) for reason, count in reasons.items()},
        "num_problems": int(manifest["problem"].notna().sum()),
        "num_copies": int(manifest["duplicate_of"].notna().sum()),
    }
