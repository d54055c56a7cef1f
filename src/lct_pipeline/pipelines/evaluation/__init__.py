"""Evaluation: how far generated images are from real ones."""

from lct_pipeline.pipelines.evaluation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
