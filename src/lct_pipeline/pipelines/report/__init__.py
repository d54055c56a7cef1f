"""The report: one HTML file that says what was made and how good it is."""

from lct_pipeline.pipelines.report.pipeline import create_pipeline

__all__ = ["create_pipeline"]
