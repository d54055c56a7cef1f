"""Baselines: the averages of the weights over training, and the best of them."""

from lct_pipeline.pipelines.baselines.pipeline import create_pipeline

__all__ = ["create_pipeline"]
