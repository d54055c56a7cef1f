"""Nodes of the statistics stage."""

from __future__ import annotations

from dataclasses import asdict

from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.lazy import pd
from lct_pipeline.parameters import Encoding
from lct_pipeline.pipelines.splits import indices_of


def measure_pixels(
    images: ShardStore, image_manifest: pd.DataFrame, parameters: Encoding
) -> pd.DataFrame:
    """Return the outlier statistics of the training split's pixels, per channel and overall."""
    return _measure(images, "images", image_manifest, parameters.batch_size)


def measure_latents(
    latents: ShardStore, latent_manifest: pd.DataFrame, parameters: Encoding
) -> pd.DataFrame:
    """Return the outlier statistics of the training split's raw latents (posterior means)."""
    return _measure(latents, "mean", latent_manifest, parameters.batch_size)


def _measure(
    store: ShardStore, name: str, manifest: pd.DataFrame, batch_size: int
) -> pd.DataFrame:
    from lct_pipeline.core.outliers import outlier_statistics

    indices = indices_of(manifest, "train")
    rows = outlier_statistics(lambda: store.batches(name, batch_size, indices))
    return pd.DataFrame([asdict(row) for row in rows])
