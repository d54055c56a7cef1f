"""References: features of real images, which the search and the evaluation compare with."""

from lct_pipeline.pipelines.references.pipeline import create_pipeline

__all__ = ["create_pipeline"]
