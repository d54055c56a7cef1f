"""The folder of an exported model."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.io import AbstractDataset

from lct_pipeline.datasets.files import atomic_path
from lct_pipeline.errors import DataError
from lct_pipeline.models.digests import file_digest

if TYPE_CHECKING:
    from lct_pipeline.export.folder import ExportedModel

logger = logging.getLogger(__name__)

_INDEX = "model_index.json"


class ExportFolderDataset(AbstractDataset["ExportedModel", Path]):
    """``ExportFolderDataset`` writes a model as the folder that diffusers loads.

    Args:
        path: The folder; an older one is replaced whole.
        metadata: Anything, for plugins such as kedro-viz.
    """

    def __init__(self, *, path: str, metadata: dict[str, Any] | None = None) -> None:
        self._path = Path(path)
        self.metadata = metadata

    def load(self) -> Path:
        """Return the folder.

        Raises:
            DataError: There is none.
        """
        if not self._exists():
            raise DataError(
                f"{self._path} is not there. Run `kedro run --pipeline=export` first."
            )
        return self._path

    def save(self, data: ExportedModel) -> None:
        """Write the folder atomically."""
        from lct_pipeline.export.folder import write_folder

        with atomic_path(self._path) as temporary:
            write_folder(data, temporary)
        size = sum(f.stat().st_size for f in self._path.rglob("*") if f.is_file())
        logger.info(
            "The %s of %s is in %s (%.1f MB), for diffusers alone; its README.md says how. "
            "Pictures: python -m lct_pipeline.sample --model %s",
            data.story.model,
            data.story.run,
            self._path,
            size / 1e6,
            self._path,
        )

    def content_digest(self) -> str:
        """Return the SHA-256 of the weights."""
        from lct_pipeline.export.folder import WEIGHTS

        return file_digest(self._path / WEIGHTS)

    def _exists(self) -> bool:
        return (self._path / _INDEX).exists()

    def _describe(self) -> dict[str, Any]:
        return {"path": str(self._path)}
