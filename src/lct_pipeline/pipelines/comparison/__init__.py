"""Comparison: two sets of image files, whoever made them, by the metrics of the evaluation."""

from lct_pipeline.pipelines.comparison.pipeline import create_pipeline

__all__ = ["create_pipeline"]
