"""Training: latents become the checkpoints of a latent consistency model (sLCT)."""

from lct_pipeline.pipelines.training.pipeline import create_pipeline

__all__ = ["create_pipeline"]
