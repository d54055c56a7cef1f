"""Nodes of the ingestion stage."""

from __future__ import annotations

from typing import Any

from lct_pipeline.lazy_types import DataFrame, ImageSource, ShardStore, ShardStream
from lct_pipeline.parameters import Runtime
from lct_pipeline.parameters.data import Ingestion


def ingest_images(
    image_source: ImageSource,
    previous_images: ShardStore,
    parameters: Ingestion,
    runtime: Runtime,
) -> ShardStream:
    """Decode all images into shards; continue after the shards that are already there."""
    from lct_pipeline.pipelines.ingestion.images import image_stream

    return image_stream(image_source, previous_images, parameters, runtime)


def build_image_manifest(
    images: ShardStore, parameters: Ingestion
) -> tuple[DataFrame, dict[str, Any]]:
    """Return one row for each entry of the source, and how many are in which split."""
    from lct_pipeline.pipelines.ingestion.manifest import image_manifest

    return image_manifest(images, parameters)
