"""Which images belong to a split."""

from __future__ import annotations

from typing import Any

from lct_pipeline.lazy import pd


def indices_of(manifest: pd.DataFrame, split: str) -> Any:
    """Return the places in the shards of the images of a split, in order, int64."""
    chosen = manifest.loc[
        (manifest["split"] == split) & manifest["index"].notna(), "index"
    ]
    return chosen.to_numpy("int64")
