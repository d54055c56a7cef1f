"""The folder of an exported model."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Protocol

from kedro.io import AbstractDataset

from lct_pipeline.datasets.files import atomic_path, missing
from lct_pipeline.errors import DataError
from lct_pipeline.models.digests import digest_of_digests, file_digest

logger = logging.getLogger(__name__)

_INDEX = "model_index.json"


class Exported(Protocol):
    """What can be written as a folder; the title says what it is, for the log."""

    @property
    def title(self) -> str:
        """Return what it is."""

    def write(self, folder: Path) -> None:
        """Write everything into a folder that is not there yet."""


class ExportFolderDataset(AbstractDataset[Exported, Path]):
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
            raise DataError(missing(self._path, "export"))
        return self._path

    def save(self, data: Exported) -> None:
        """Write the folder atomically."""
        with atomic_path(self._path) as temporary:
            data.write(temporary)
        size = sum(f.stat().st_size for f in self._path.rglob("*") if f.is_file())
        logger.info(
            "The %s is in %s (%.1f MB), for diffusers alone; its README.md says how. "
            "Pictures: python -m lct_pipeline.sample --model %s",
            data.title,
            self._path,
            size / 1e6,
            self._path,
        )

    def content_digest(self) -> str:
        """Return a digest of all files."""
        files = sorted(path for path in self._path.rglob("*") if path.is_file())
        return digest_of_digests(file_digest(path) for path in files)

    def _exists(self) -> bool:
        return (self._path / _INDEX).exists()

    def _describe(self) -> dict[str, Any]:
        return {"path": str(self._path)}
