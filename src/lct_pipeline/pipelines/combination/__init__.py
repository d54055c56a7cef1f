"""Combination: the linear combination of checkpoints that generates best (LCSC)."""

from lct_pipeline.pipelines.combination.pipeline import create_pipeline

__all__ = ["create_pipeline"]
