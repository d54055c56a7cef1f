"""What generated images are compared with: two feature extractors and what they find."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from lct_pipeline.datasets.files import missing
from lct_pipeline.datasets.parts import (
    INDEX,
    Last,
    close_folder,
    is_complete,
    open_folder,
    opened,
)
from lct_pipeline.datasets.tensors import (
    DIGEST_KEY,
    TensorFile,
    content_digest,
    read_header,
    read_tensors,
    write_tensors,
)
from lct_pipeline.errors import DataError
from lct_pipeline.models.digests import digest_of_digests


@dataclass(frozen=True)
class Reference:
    """Two extractors, and what they find in the real images of each split.

    Attributes:
        extractor: That of search, selections and evaluation; what it finds has no prefix.
        check_extractor: By which nothing is searched; what it finds begins with
            ``check.``.
        statistics: What both find.
    """

    extractor: TensorFile
    check_extractor: TensorFile
    statistics: TensorFile


Parts = dict[str, TensorFile]  # by the names of the attributes above
FILES = {
    "extractor": "feature_extractor.safetensors",
    "check_extractor": "check_extractor.safetensors",
    "statistics": "reference_statistics.safetensors",
}


class ReferenceDataset(AbstractDataset[Parts | Last[Parts], Any]):
    """``ReferenceDataset`` writes the parts of a reference one by one, and loads all together.

    Args:
        path: The folder.
        partial: Whether it loads, as parts by name, before all of them are there.
        metadata: Anything, for plugins such as kedro-viz.
    """

    def __init__(
        self,
        *,
        path: str,
        partial: bool = False,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._path, self._partial = Path(path), partial
        self.metadata = metadata

    def load(self) -> Reference | Parts:
        """Return the reference; with ``partial`` the parts of it that are there.

        Raises:
            DataError: It is not complete.
        """
        if not self._partial and not self._exists():
            raise DataError(missing(self._path / INDEX, "evaluate"))
        paths = {name: self._path / file for name, file in FILES.items()}
        there = (name for name, path in paths.items() if path.exists())
        parts = {name: TensorFile(*read_tensors(paths[name])) for name in there}
        return parts if self._partial else Reference(**parts)

    def save(self, data: Parts | Last[Parts]) -> None:
        """Write some parts atomically, then the index where they are the last.

        What is the same is left alone: several runs share a reference, and may read it now.
        """
        parts, is_last = opened(data)
        new = {name: part for name, part in parts.items() if not self._has(name, part)}
        if new and not is_last:
            open_folder(self._path)
        for name, part in new.items():
            write_tensors(self._path / FILES[name], part.tensors, part.metadata)
        if is_last:
            close_folder(self._path, FILES.values())

    def _has(self, name: str, part: TensorFile) -> bool:
        path = self._path / FILES[name]
        if not path.exists():
            return False
        digest = content_digest(part.tensors, part.metadata)
        return read_header(path)[0][DIGEST_KEY] == digest

    def content_digest(self) -> str:
        """Return a digest of the digests of all parts."""
        files = (self._path / file for file in FILES.values())
        return digest_of_digests(read_header(file)[0][DIGEST_KEY] for file in files)

    def _exists(self) -> bool:
        return is_complete(self._path)

    def _describe(self) -> dict[str, Any]:
        return {"path": str(self._path)}
