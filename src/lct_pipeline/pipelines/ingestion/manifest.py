"""The manifest of the images: one row for each entry of the source."""

from __future__ import annotations

import logging
from typing import Any

import pandas as pd
import pyarrow as pa
from pandas import DataFrame

from lct_pipeline.core.metrics.neighbours import NEIGHBOUR_OF_DENSITY
from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.datasets.splits import SPLITS
from lct_pipeline.errors import DataError
from lct_pipeline.parameters.data import Ingestion

logger = logging.getLogger(__name__)

MAX_REASONS = 8  # of problems, the most frequent


def image_manifest(
    images: ShardStore, parameters: Ingestion
) -> tuple[DataFrame, dict[str, Any]]:
    """Return one row per source entry, and what :func:`record_of` says of them.

    ``index`` is the image's place in the shards. ``duplicate_of`` names the first image with the
    same content, null in that one and in all that have no copy. With ``ingestion.duplicates=drop``
    copies are in no split.

    Raises:
        DataError: A split has fewer than two images.
    """
    rows = pa.concat_tables(shard.rows for shard in images.shards)
    manifest = rows.to_pandas().astype({"width": "Int32", "height": "Int32"})
    usable = manifest["problem"].isna()
    manifest.insert(0, "index", usable.cumsum().sub(1).where(usable).astype("Int64"))
    manifest["duplicate_of"] = _originals(manifest, usable)
    if parameters.duplicates == "drop":
        copies = manifest["duplicate_of"].notna()
        manifest["split"] = manifest["split"].mask(copies)
    record = record_of(manifest)
    _check(manifest, record, parameters)
    return manifest, record


def _originals(manifest: DataFrame, usable: pd.Series) -> pd.Series:
    """Return the name of the first image with the same content, null for that one itself."""
    known = manifest[usable]
    first = known.groupby("digest")["source"].transform("first")
    copies = first[known["digest"].duplicated()]
    return copies.astype("string").reindex(manifest.index)


def record_of(manifest: DataFrame) -> dict[str, Any]:
    """Return how many images there are by split, why others cannot be used, and how many copies."""
    reasons = manifest["problem"].dropna().value_counts().head(MAX_REASONS)
    return {
        "num_entries": len(manifest),
        "splits": {name: int((manifest["split"] == name).sum()) for name in SPLITS},
        "problems": {str(reason): int(count) for reason, count in reasons.items()},
        "num_problems": int(manifest["problem"].notna().sum()),
        "num_copies": int(manifest["duplicate_of"].notna().sum()),
    }


def _check(manifest: DataFrame, record: dict[str, Any], parameters: Ingestion) -> None:
    """Say what a record says; raise DataError where a split has too few images."""
    if record["num_problems"]:
        logger.warning(
            "%d of %d images cannot be used and are left out: see column `problem` of the image "
            "manifest.",
            record["num_problems"],
            record["num_entries"],
        )
    if record["num_copies"]:
        logger.info(
            "%d images are exact copies of others (column `duplicate_of`) and are %s.",
            record["num_copies"],
            "kept" if parameters.duplicates == "keep" else "in no split",
        )
    _check_labels(manifest[manifest["problem"].isna()]["label"], parameters)
    splits = record["splits"]
    logger.info("Images by split: %s.", splits)
    for name, count in splits.items():
        if count < 2:
            raise DataError(
                f"the {name} split has {count} of {sum(splits.values())} images and needs at least "
                "2: give more images or other shares in ingestion.splits."
            )
        if count <= NEIGHBOUR_OF_DENSITY:
            logger.warning(
                "The %s split has %d images: where it is measured, precision, recall, density and "
                "coverage are left out. They need %d.",
                *(name, count, NEIGHBOUR_OF_DENSITY + 1),
            )


def _check_labels(labels: pd.Series, parameters: Ingestion) -> None:
    """Say how many images have labels; raise DataError where a column of them has none."""
    found = (
        f"labels: {labels.nunique()} classes, {labels.count()} of {len(labels)} images"
    )
    logger.info("%s.", found)
    if parameters.labels == "column" and not labels.count():
        raise DataError(
            f"ingestion.label_column={parameters.label_column!r}: {found}. Give the column with "
            "labels, or ingestion.labels=none."
        )
