"""Cataloging: an index of all checkpoints of a run, our own or of another trainer."""

from lct_pipeline.pipelines.cataloging.pipeline import (
    create_import_pipeline,
    create_pipeline,
)

__all__ = ["create_import_pipeline", "create_pipeline"]
