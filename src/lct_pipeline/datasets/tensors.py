"""One safetensors file with metadata: a state, a normalisation, a model."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.io import AbstractDataset
from kedro_datasets._typing import JSONPreview, TablePreview

from lct_pipeline.datasets.files import (
    DIGEST_KEY,
    read_header,
    read_tensors,
    write_tensors,
)
from lct_pipeline.datasets.previews import NOTHING, header, table_of_headers
from lct_pipeline.errors import DataError
from lct_pipeline.models.digests import digest_of_digests

if TYPE_CHECKING:
    from torch import Tensor


def missing(path: Path, written_by: str | None) -> str:
    """Return the message for a result that is not there yet."""
    hint = f" Run `kedro run --pipeline={written_by}` first." if written_by else ""
    return f"{path} is not there.{hint}"


@dataclass(frozen=True)
class TensorFile:
    """Tensors by name, and JSON values about them."""

    tensors: dict[str, Tensor]
    metadata: dict[str, Any] = field(default_factory=dict)


class TensorFileDataset(AbstractDataset[TensorFile, TensorFile | None]):
    """``TensorFileDataset`` keeps tensors and metadata in one file, verified on load.

    Example for the catalog:

    .. code-block:: yaml

        previous_training_state:
          type: lct_pipeline.datasets.tensors.TensorFileDataset
          filepath: data/06_models/run/training_state.safetensors
          optional: true

    Args:
        filepath: The file.
        optional: Whether a missing file loads as None instead of raising.
        written_by: Name of the pipeline that writes it, for the message when it is missing.
        metadata: Anything, for plugins such as kedro-viz.
    """

    def __init__(
        self,
        *,
        filepath: str,
        optional: bool = False,
        written_by: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._path = Path(filepath)
        self._optional = optional
        self._written_by = written_by
        self.metadata = metadata

    def load(self) -> TensorFile | None:
        """Return the content, or None where it may be missing and is."""
        if not self._path.exists():
            if self._optional:
                return None
            raise DataError(missing(self._path, self._written_by))
        return TensorFile(*read_tensors(self._path))

    def save(self, data: TensorFile) -> None:
        """Write the file atomically."""
        write_tensors(self._path, data.tensors, data.metadata)

    def content_digest(self) -> str:
        """Return the digest that the file carries."""
        return read_header(self._path)[0][DIGEST_KEY]

    def preview(self) -> JSONPreview:
        """Return what the file says of itself for kedro-viz."""
        return header(self._path) if self._exists() else NOTHING

    def _exists(self) -> bool:
        return self._path.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._path), "optional": self._optional}


@dataclass(frozen=True)
class CheckpointStore:
    """A folder of checkpoints, one file each, read one at a time."""

    folder: Path

    @property
    def run(self) -> str:
        """Name of the run: the folder that holds the checkpoints."""
        return self.folder.parent.name

    def names(self) -> list[str]:
        """Return the names of all checkpoints, sorted: by step, then by kind."""
        return sorted(path.stem for path in self.folder.glob("[!.]*.safetensors"))

    def path(self, name: str) -> Path:
        """Return the file of a checkpoint."""
        return self.folder / f"{name}.safetensors"

    def header(self, name: str) -> dict[str, Any]:
        """Return a checkpoint's metadata, with its digest, without reading its tensors."""
        return read_header(self.path(name))[0]

    def headers(self) -> dict[str, dict[str, Any]]:
        """Return the metadata of all checkpoints by name."""
        return {name: self.header(name) for name in self.names()}

    def read(self, name: str, digest: str | None = None) -> TensorFile:
        """Return a checkpoint, verified against its own digest and against ``digest``.

        Raises:
            DataError: The file is missing, truncated, altered, or not the indexed one.
        """
        if digest is not None and self.header(name)[DIGEST_KEY] != digest:
            raise DataError(
                f"{self.path(name)} is not the checkpoint that was cataloged: run "
                "`kedro run --pipeline=train`, or `catalog` where another trainer wrote it, to "
                "catalog what is there now."
            )
        return TensorFile(*read_tensors(self.path(name)))


class CheckpointsDataset(AbstractDataset[dict[str, TensorFile], CheckpointStore]):
    """``CheckpointsDataset`` adds checkpoints to a folder and reads them back one by one.

    A save adds to what is there; the same name is replaced.

    Args:
        path: The folder.
        metadata: Anything, for plugins such as kedro-viz.
    """

    def __init__(self, *, path: str, metadata: dict[str, Any] | None = None) -> None:
        self._path = Path(path)
        self.metadata = metadata

    def load(self) -> CheckpointStore:
        """Return the store."""
        return CheckpointStore(self._path)

    def save(self, data: dict[str, TensorFile]) -> None:
        """Write each checkpoint atomically."""
        for name, checkpoint in data.items():
            write_tensors(self._path / f"{name}.safetensors", *_parts(checkpoint))

    def content_digest(self) -> str:
        """Return a digest of the names and digests of all checkpoints."""
        headers = CheckpointStore(self._path).headers()
        return digest_of_digests(f"{n} {h[DIGEST_KEY]}" for n, h in headers.items())

    def preview(self) -> TablePreview:
        """Return what the checkpoints say of themselves for kedro-viz."""
        found = CheckpointStore(self._path).headers()
        return table_of_headers(found) if found else NOTHING

    def _exists(self) -> bool:
        return bool(CheckpointStore(self._path).names())

    def _describe(self) -> dict[str, Any]:
        return {"path": str(self._path)}


def _parts(file: TensorFile) -> tuple[dict[str, Tensor], dict[str, Any]]:
    return file.tensors, file.metadata
