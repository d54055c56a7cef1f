"""State dicts in files that other trainers wrote: safetensors, their shards, and torch files."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from lct_pipeline.errors import DataError
from lct_pipeline.given_files import INDEX_SUFFIX, listed_files, regular_file

FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
WHOLE = {torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}


class UnreadableError(DataError):
    """A file cannot be read: damaged, or still being written."""


@dataclass(frozen=True)
class WeightSelection:
    """Which tensors of a file are taken, and under which names.

    Attributes:
        entry: Dotted way to the state dict inside a torch file; a number is a place in a list.
            None: the file itself is a flat mapping of names to tensors.
        names: Regular expression found in the names, as in the file, that are taken; None: all.
        strip_prefix: Removed from the names that begin with it.
    """

    entry: str | None
    names: str | None
    strip_prefix: str | None


def weight_paths(path: Path) -> tuple[Path, ...]:
    """Return the files that hold a checkpoint: itself, or an index of shards and the shards.

    Raises:
        DataError: One of them is not a regular file, the index is not readable or names a file
            elsewhere, or a shard is missing.
    """
    is_index = path.name.endswith(INDEX_SUFFIX)
    shards = sorted(listed_files(path)) if is_index else []
    for file in (path, *shards):
        if not file.exists():
            raise DataError(
                f"{path} lists {file.name}, which is not there. Copy the whole folder again, or "
                "leave the checkpoint out with cataloging.pattern."
            )
        regular_file(file)
    return (path, *shards)


def open_weights(
    paths: tuple[Path, ...], selection: WeightSelection
) -> dict[str, Tensor]:
    """Return the selected tensors, floating ones as float32 and all others as they are.

    A combination is ``sum_k alpha_k theta_k`` with coefficients that may be larger than 6 and of
    both signs: the rounding of each term is amplified by ``sum_k |alpha_k|`` while the sum itself
    stays of the size of one checkpoint. In bfloat16 (8 bits) or float16 (11 bits) that would be
    visible, in float32 it is not.

    Args:
        paths: What :func:`weight_paths` gives.
        selection: Which tensors, and their names.

    Raises:
        DataError: A file is damaged, holds more than tensors, has no such entry or names, or values
            that are not finite as float32.
    """
    content, *others = [_read_file(path) for path in paths[1:] or paths]
    for shard in others:
        content = {**content, **shard}
    taken = _state_dict(content, paths[0], selection)
    tensors = _without_prefix(taken, paths[0], selection.strip_prefix)
    for name, tensor in tensors.items():
        kept = torch.float32 if tensor.is_floating_point() else tensor.dtype
        tensors[name] = tensor.detach().to(kept)
        if tensor.is_floating_point() and not tensors[name].isfinite().all():
            raise DataError(
                f"{paths[0]}: tensor {name!r} has values that are NaN or infinite in float32. The "
                "training diverged there: leave the checkpoint out with cataloging.pattern."
            )
    return tensors


def _read_file(path: Path) -> Any:
    """Return what a file holds, tensors and plain containers only, mapped from disk if possible."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        mapped = zipfile.is_zipfile(path)  # not so before PyTorch 1.6
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # an unpickler that meets damaged bytes raises anything
        code = re.search(r"GLOBAL (\S+)", str(error))
        if isinstance(error, pickle.UnpicklingError) and code:
            raise DataError(
                f"{path} holds Python objects ({code[1]}) beside its tensors: reading them can run "
                "code that came with the file, so it is not read. If you trust it, save its "
                "weights alone: content = torch.load(file, weights_only=False); "
                "torch.save(content[...], new_file)."
            ) from error
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> UnreadableError:
    """Return the error of a file that cannot be read."""
    reason = (str(error).splitlines() or [""])[0][:200]
    return UnreadableError(
        f"{path} cannot be read ({type(error).__name__}: {reason}): it is damaged, cut short or of "
        "another format. Copy it again, or leave it out with cataloging.pattern."
    )


def _state_dict(
    content: Any, path: Path, selection: WeightSelection
) -> dict[str, Tensor]:
    """Return the tensors at the entry whose names are taken."""
    value, expression = _at(content, selection.entry), selection.names or ""
    named = value.items() if isinstance(value, Mapping) else ()
    taken = {str(name): v for name, v in named if re.search(expression, str(name))}
    fault = _fault(value, taken)
    if fault:
        entries = ", ".join(_entries(content)) or "none"
        raise DataError(
            f"{path} has no flat mapping of names to tensors at cataloging.entry="
            f"{selection.entry}, with cataloging.names={selection.names}: {fault}. Entries that "
            f"are one: {entries}."
        )
    return taken


def _at(content: Any, entry: str | None) -> Any:
    """Return what lies at a dotted way inside mappings and lists; None where nothing does."""
    try:
        for part in entry.split(".") if entry else []:
            content = content[part if isinstance(content, Mapping) else int(part)]
    except (LookupError, TypeError, ValueError):
        return None
    return content


def _fault(value: Any, taken: Mapping[str, Any]) -> str | None:
    """Return why a value is no state dict, None where it is one."""
    if not isinstance(value, Mapping):
        return (
            "nothing is there"
            if value is None
            else f"it is of type {type(value).__name__}"
        )
    if not value:
        return "it is empty"
    if not taken:
        return f"no name matches; the first are {', '.join(map(str, [*value][:3]))}"
    for name, item in taken.items():
        if not isinstance(item, Tensor):
            return f"{name!r} is of type {type(item).__name__}"
        if fault := _not_combinable(item):
            return f"{name!r} {fault}"
    return None


def _not_combinable(tensor: Tensor) -> str | None:
    """Return why a tensor has no place in a weighted sum, None where it has one."""
    if tensor.is_meta:
        return (
            "is on the device meta, without values: save the model after it is loaded"
        )
    if tensor.is_complex():
        return "is complex, which cannot be combined: save torch.view_as_real of it"
    if tensor.dtype not in FLOATS | WHOLE:
        return (
            f"is {tensor.dtype}: a combination multiplies the rounding by the sum of |alpha|. Give "
            "the checkpoints as they were trained, before they were quantised"
        )
    if tensor.layout != torch.strided or tensor.is_nested:
        return f"is {tensor.layout} and not dense: save its to_dense()"
    return None


def _entries(content: Any, way: str = "") -> Iterator[str]:
    """Yield the dotted ways to all state dicts; null is the way to the file itself."""
    items: list[tuple[Any, Any]] = []
    if isinstance(content, Mapping) and all(isinstance(key, str) for key in content):
        items = list(content.items())
        if items and all(isinstance(value, Tensor) for _, value in items):
            yield way.removeprefix(".") or "null"
            return
    elif isinstance(content, list | tuple):
        items = list(enumerate(content))
    for key, value in items:
        yield from _entries(value, f"{way}.{key}")


def _without_prefix(
    tensors: Mapping[str, Tensor], path: Path, prefix: str | None
) -> dict[str, Tensor]:
    """Return tensors under names without the prefix."""
    if prefix and not any(name.startswith(prefix) for name in tensors):
        raise DataError(
            f"{path}: no tensor name begins with cataloging.strip_prefix={prefix!r}; the first is "
            f"{next(iter(tensors))!r}."
        )
    short = {
        name.removeprefix(prefix or ""): tensor for name, tensor in tensors.items()
    }
    if len(short) < len(tensors):
        raise DataError(
            f"{path}: without cataloging.strip_prefix={prefix!r} two tensors have the same name; "
            "take one kind of them with cataloging.names."
        )
    return short
