"""Statistics: how heavy the tails of pixels and latents are."""

from lct_pipeline.pipelines.statistics.pipeline import create_pipeline

__all__ = ["create_pipeline"]
