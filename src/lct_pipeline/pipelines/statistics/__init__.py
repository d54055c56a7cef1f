"""Statistics: how heavy the tails are, of pixels, latents and a model's temporal differences."""

from lct_pipeline.pipelines.statistics.pipeline import create_pipeline

__all__ = ["create_pipeline"]
