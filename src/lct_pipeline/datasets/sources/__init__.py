"""Where images come from: files, archives, tables, arrays and Hugging Face data sets."""

from lct_pipeline.datasets.sources.base import ImageSource, RawImage
from lct_pipeline.datasets.sources.opening import ImageSourceDataset, open_source

__all__ = ["ImageSource", "ImageSourceDataset", "RawImage", "open_source"]
