"""Ingestion: a source of images becomes uint8 shards and a manifest."""

from lct_pipeline.pipelines.ingestion.pipeline import create_pipeline

__all__ = ["create_pipeline"]
