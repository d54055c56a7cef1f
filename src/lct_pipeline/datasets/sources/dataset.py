"""The catalog's entry for images that are read from outside."""

from __future__ import annotations

from typing import Any

from kedro.io import AbstractDataset

from lct_pipeline.datasets.sources.base import ImageSource, SourceOptions
from lct_pipeline.datasets.sources.opening import open_source
from lct_pipeline.errors import DataError


class ImageSourceDataset(AbstractDataset[None, ImageSource | None]):
    """``ImageSourceDataset`` opens the images that are to be read.

    Example for the catalog:

    .. code-block:: yaml

        image_source:
          type: lct_pipeline.datasets.sources.ImageSourceDataset
          source: shards/train-{000..009}.tar
          labels: folders
          image_column: null
          label_column: label
          hub_split: train
          max_mib: 256

    Args:
        source: The built-in ``digits``, a folder, an archive, a table or array file, a pattern of
            them, or ``hf://datasets/<id>``. With None there is nothing to load, and None is.
        metadata: Anything, for plugins such as kedro-viz.
        options: ``labels``: ``folders``, ``column``, ``none``, or a .csv; ``image_column`` of a
            table, an array file or the .csv, None for the only one that can be meant;
            ``label_column`` of these; ``hub_split`` of a Hugging Face data set; ``max_mib``: larger
            files are not read.
    """

    def __init__(
        self,
        *,
        source: str | None,
        metadata: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self._source, self._options = source, SourceOptions(**options)
        self._fingerprint: str | None = None
        self.metadata = metadata

    def load(self) -> ImageSource | None:
        """Return the source; images are read when they are asked for."""
        if self._source is None:
            return None
        source = open_source(self._source, self._options)
        self._fingerprint = source.fingerprint
        return source

    def save(self, data: None) -> None:
        """Sources are only read."""
        raise DataError("an image source cannot be written.")

    def content_digest(self) -> str:
        """Return the fingerprint of the source as it was when it was opened."""
        assert self._fingerprint is not None
        return self._fingerprint

    def _exists(self) -> bool:
        return self._fingerprint is not None

    def _describe(self) -> dict[str, Any]:
        return {"source": self._source}
