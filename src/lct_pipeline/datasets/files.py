"""Files that are whole or absent: atomic writes, and tensors that carry their own digest."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lct_pipeline.errors import DataError
from lct_pipeline.models.digests import tensors_digest

if TYPE_CHECKING:
    from torch import Tensor

DIGEST_KEY = "sha256"
_MALFORMED = (ValueError, LookupError, TypeError, AttributeError)  # of a damaged header


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``target`` and rename it onto ``target`` on success.

    A reader sees the old file or the new one, never half of one. What a failed write leaves is
    removed; what a killed one leaves carries the prefix ``.tmp-`` and is never read.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".tmp-{os.getpid()}-{target.name}")
    try:
        yield temporary
        if temporary.is_dir() and target.is_dir():
            shutil.rmtree(target)
        os.replace(temporary, target)
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    """Remove a file or a folder if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


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
        metadata: JSON values, stored in the header beside the digest.
    """
    from safetensors.torch import save_file

    digest = content_digest(tensors, metadata)
    header = {key: json.dumps(value) for key, value in metadata.items()}
    plain = _unshared({name: t.detach().cpu() for name, t in tensors.items()})
    with atomic_path(path) as temporary:
        save_file(plain, temporary, {**header, DIGEST_KEY: json.dumps(digest)})
        _sort_header(temporary)
    return digest


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return contiguous tensors of which no two share memory, which safetensors refuses."""
    storages: set[int] = set()
    plain = {}
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage().data_ptr()
        is_shared = storage in storages or not tensor.is_contiguous()
        plain[name] = tensor.contiguous().clone() if is_shared else tensor
        storages.add(storage)
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
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > path.stat().st_size:
                raise ValueError("the header is longer than the file")
            entries = json.loads(file.read(length))
            raw = entries.pop("__metadata__", {})
            metadata = {key: json.loads(value) for key, value in raw.items()}
            end = max((e["data_offsets"][1] for e in entries.values()), default=0)
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing.") from error
    except (*_MALFORMED, struct.error, OSError) as error:
        raise DataError(
            f"{path} is not a readable safetensors file: {error}."
        ) from error
    if path.stat().st_size != 8 + length + end:
        raise DataError(
            f"{path} is truncated: {path.stat().st_size} bytes, its header promises "
            f"{8 + length + end}. Remove it and run the command again."
        )
    return metadata, entries, 8 + length


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return tensors and metadata of a file that :func:`write_tensors` wrote, verified.

    Raises:
        DataError: The file is missing, truncated, or its content is not what was written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

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
