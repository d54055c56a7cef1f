"""One safetensors file with metadata, which carries the digest of its own content."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from kedro_datasets._typing import JSONPreview
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lct_pipeline.datasets.atomic import AtomicDataset
from lct_pipeline.datasets.files import atomic_path
from lct_pipeline.datasets.parts import COMPLETE_KEY, Last, opened
from lct_pipeline.datasets.previews import NOTHING, header
from lct_pipeline.errors import DataError
from lct_pipeline.given_files import regular_file
from lct_pipeline.models.digests import tensors_digest

DIGEST_KEY = "sha256"
SAID = "said"  # key of what another trainer's file says of itself; see write_tensors
# of a damaged header
_MALFORMED = (ValueError, LookupError, TypeError, AttributeError, struct.error)


def content_digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> str:
    """Return the SHA-256 of tensors and of what a file says about them."""
    about = json.dumps(metadata, sort_keys=True)
    return hashlib.sha256(f"{tensors_digest(tensors)} {about}".encode()).hexdigest()


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]
) -> str:
    """Write a safetensors file atomically and return the digest of its content.

    Args:
        path: The file.
        tensors: What to write; tied tensors are written once for each name.
        metadata: JSON values, stored in the header beside the digest. Texts under ``said`` are
            also stored as they are, for the programs that look for them there; a name that is
            taken gets ``their_`` before it.
    """
    said = {
        f"their_{key}" if key in (*metadata, DIGEST_KEY) else key: text
        for key, text in metadata.get(SAID, {}).items()
    }
    if said:
        metadata = {**metadata, SAID: said}
    digest = content_digest(tensors, metadata)
    header = said | {key: json.dumps(value) for key, value in metadata.items()}
    plain = _unshared({name: t.detach().cpu() for name, t in tensors.items()})
    with atomic_path(path) as temporary:
        save_file(plain, temporary, {**header, DIGEST_KEY: json.dumps(digest)})
        _sort_header(temporary)
    return digest


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return contiguous tensors of which no two share memory, which safetensors refuses.

    Parts of one vector share none; each gets a storage that begins where it does, not a copy.
    """
    storages: set[int] = set()
    plain = {}
    for name, tensor in tensors.items():
        own = torch.from_dlpack(tensor.contiguous())
        start = own.data_ptr()
        plain[name] = own.clone() if start in storages else own
        storages.add(start)
    return plain


def _sort_header(path: Path) -> None:
    """Sort the header in place: safetensors writes metadata in an order that changes each time."""
    with path.open("r+b") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        text = json.dumps(
            header, sort_keys=True, separators=(",", ":"), ensure_ascii=False
        )
        file.seek(8)
        file.write(text.encode().ljust(length))


def read_header(path: Path) -> tuple[dict[str, Any], dict[str, Any], int]:
    """Return metadata, tensor entries and the offset of the data of a safetensors file.

    Raises:
        DataError: The file is missing, cut short or not a safetensors file.
    """
    try:
        size = regular_file(path).stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            entries = json.loads(file.read(min(length, size)))
        about = entries.pop("__metadata__", {})
        said = json.loads(about.get(SAID, "{}"))
        metadata = {k: json.loads(v) for k, v in about.items() if v != said.get(k)}
        ends = [entry["data_offsets"][1] for entry in entries.values()]
        promised = 8 + length + max(ends, default=0)
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing.") from error
    except (*_MALFORMED, OSError) as error:
        raise DataError(
            f"{path} is not a readable safetensors file: {error}."
        ) from error
    if size != promised:
        raise DataError(
            f"{path} is truncated: {size} bytes, its header promises {promised}. Remove it and run "
            "the command again."
        )
    return metadata, entries, 8 + length


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return tensors and metadata of a file that :func:`write_tensors` wrote, verified.

    Raises:
        DataError: The file is missing, truncated, or its content is not what was written.
    """
    metadata, _, _ = read_header(path)
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise DataError(
            f"{path} is damaged: {error}. Remove it and run the command again."
        ) from error
    expected = metadata.pop(DIGEST_KEY, None)
    if expected != content_digest(tensors, metadata):
        raise DataError(
            f"{path} was altered after it was written: its content does not have the digest "
            f"{expected} of its header. Remove it and run the command again."
        )
    return tensors, metadata


@dataclass(frozen=True)
class TensorFile:
    """Tensors by name, and JSON values about them."""

    tensors: dict[str, Tensor]
    metadata: dict[str, Any] = field(default_factory=dict)


class TensorFileDataset(AtomicDataset):
    """``TensorFileDataset`` keeps tensors and metadata in one file, verified on load.

    Example for the catalog:

    .. code-block:: yaml

        training_state:
          type: lct_pipeline.datasets.tensors.TensorFileDataset
          filepath: data/06_models/run/training_state.safetensors
          in_parts: true
          optional: true

    Args:
        filepath: The file.
        in_parts: Whether a node saves it again and again: it exists when the
            :class:`~lct_pipeline.datasets.parts.Last` is saved, and loads before that too.
        settings: See :class:`~lct_pipeline.datasets.atomic.AtomicDataset`.
    """

    def __init__(
        self, *, filepath: str, in_parts: bool = False, **settings: Any
    ) -> None:
        super().__init__(filepath=filepath, dataset="safetensors", **settings)
        self._in_parts = in_parts

    def content_digest(self) -> str:
        """Return the digest that the file carries."""
        return read_header(Path(self._filepath))[0][DIGEST_KEY]

    def preview(self) -> JSONPreview:
        """Return what the file says of itself for kedro-viz."""
        path = self._found()
        return NOTHING if path is None else header(*read_header(path)[:2])

    def _read(self, path: Path) -> TensorFile:
        tensors, metadata = read_tensors(path)
        metadata.pop(COMPLETE_KEY, None)
        return TensorFile(tensors, metadata)

    def _write(self, data: TensorFile | Last[TensorFile], path: Path) -> None:
        file, is_last = opened(data)
        mark = {COMPLETE_KEY: is_last} if self._in_parts else {}
        write_tensors(path, file.tensors, file.metadata | mark)

    def _exists(self) -> bool:
        path = self._found()
        if path is None or not self._in_parts:
            return path is not None
        return read_header(path)[0].get(COMPLETE_KEY, True)
