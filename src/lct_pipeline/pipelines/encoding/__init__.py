"""Encoding: images become latents, with the autoencoder that is named or fitted here."""

from lct_pipeline.pipelines.encoding.pipeline import create_pipeline

__all__ = ["create_pipeline"]
