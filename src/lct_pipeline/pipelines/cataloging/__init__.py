"""Cataloging: an index of all checkpoints of a run."""

from lct_pipeline.pipelines.cataloging.pipeline import create_pipeline

__all__ = ["create_pipeline"]
