"""The export stage: a model as a folder that diffusers alone loads."""

from lct_pipeline.pipelines.export.pipeline import create_pipeline

__all__ = ["create_pipeline"]
