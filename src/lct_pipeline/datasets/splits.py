"""Which images belong to a split."""

from __future__ import annotations

from typing import Any

from pandas import DataFrame

from lct_pipeline.models.digests import digest_of_digests

SPLITS = ("train", "validation", "test")


def usable_rows(manifest: DataFrame, split: str) -> DataFrame:
    """Return the rows of the images of a split that could be decoded, in order."""
    return manifest[(manifest["split"] == split) & manifest["index"].notna()]


def indices_of(manifest: DataFrame, split: str) -> Any:
    """Return the places in the shards of the images of a split, in order, int64."""
    return usable_rows(manifest, split)["index"].to_numpy("int64")


def images_digest(manifest: DataFrame) -> str:
    """Return a digest of content, label and split of all usable images, wherever they are from."""
    rows = manifest.loc[manifest["index"].notna(), ["digest", "label", "split"]]
    values = rows.astype("string").fillna("").itertuples(index=False, name=None)
    return digest_of_digests(map(repr, values))
