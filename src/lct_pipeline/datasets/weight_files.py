"""State dicts in files that other trainers wrote: safetensors, their shards, and torch files."""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from lct_pipeline.errors import DataError

INDEX_SUFFIX = (
    ".index.json"  # of a list of shards, as diffusers and transformers write it
)


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
        DataError: The index is not readable, or a shard is missing.
    """
    if not path.name.endswith(INDEX_SUFFIX):
        return (path,)
    try:
        shards = json.loads(path.read_bytes())["weight_map"].values()
        paths = sorted({path.parent / shard for shard in shards})
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise _unreadable(path, error) from error
    for shard in paths:
        if not shard.is_file():
            raise DataError(
                f"{path} lists {shard.name}, which is not there. Copy the whole folder again, or "
                "leave the checkpoint out with cataloging.pattern."
            )
    return (path, *paths)


def open_weights(
    paths: tuple[Path, ...], selection: WeightSelection
) -> dict[str, Tensor]:
    """Return the selected tensors as they are stored, mapped from disk where the format allows it.

    Args:
        paths: What :func:`weight_paths` gives.
        selection: Which tensors, and their names.

    Raises:
        DataError: A file is damaged, holds more than tensors, or has no such entry or names.
    """
    shards = paths[1:] or paths
    contents = [_read_file(path) for path in shards]
    content = contents[0]
    if len(shards) > 1:
        content = {name: value for part in contents for name, value in part.items()}
    state_dict = _state_dict(content, paths[0], selection)
    return _without_prefix(state_dict, paths[0], selection.strip_prefix)


def as_float32(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return floating tensors as float32 and all others as they are.

    A combination is ``sum_k alpha_k theta_k`` with coefficients that may be larger than 6 and of
    both signs: the rounding of each term is amplified by ``sum_k |alpha_k|`` while the sum itself
    stays of the size of one checkpoint. In bfloat16 (8 bits) or float16 (11 bits) that would be
    visible, in float32 it is not.

    Args:
        tensors: What :func:`open_weights` gives.
        path: Their file, for the message.

    Raises:
        DataError: A value is NaN or infinite, or too large for float32.
    """
    converted = {}
    for name, tensor in tensors.items():
        converted[name] = tensor.to(kept_dtype(tensor))
        if not converted[name].isfinite().all():
            raise DataError(
                f"{path}: tensor {name!r} has values that are NaN or infinite in float32. The "
                "training diverged there: leave the checkpoint out with cataloging.pattern."
            )
    return converted


def kept_dtype(tensor: Tensor) -> Any:
    """Return the torch dtype that a tensor has after :func:`as_float32`."""
    return torch.float32 if tensor.is_floating_point() else tensor.dtype


def _read_file(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return _read_torch(path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error


def _read_torch(path: Path) -> Any:
    """Return what ``torch.save`` wrote, tensors and plain containers only, on the CPU."""
    try:
        mapped = zipfile.is_zipfile(path)  # not so before PyTorch 1.6
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        if found:
            raise _needs_code(path, found[1]) from error
        raise _unreadable(path, error) from error
    except Exception as error:  # an unpickler that meets damaged bytes raises anything
        raise _unreadable(path, error) from error


def _needs_code(path: Path, name: str) -> DataError:
    return DataError(
        f"{path} holds Python objects ({name}) beside its tensors: reading them can run code that "
        "came with the file, so it is not read. If you trust it, save its weights alone: "
        "content = torch.load(file, weights_only=False); torch.save(content[...], new_file)."
    )


def _unreadable(path: Path, error: Exception) -> DataError:
    reason = (str(error).splitlines() or [""])[0][:200]
    return DataError(
        f"{path} cannot be read ({type(error).__name__}: {reason}): it is damaged, cut short or of "
        "another format. Copy it again, or leave it out with cataloging.pattern."
    )


def _state_dict(
    content: Any, path: Path, selection: WeightSelection
) -> dict[str, Tensor]:
    """Return the tensors at the entry whose names are taken."""
    try:
        value = _at(content, selection.entry)
    except (LookupError, TypeError, ValueError) as error:
        raise DataError(
            f"{path} has no entry {selection.entry!r}. {_choices(content)}"
        ) from error
    taken = _taken(value, selection.names)
    fault = _fault(value, taken)
    if fault:
        entry = f"entry {selection.entry!r} of " if selection.entry else ""
        raise DataError(
            f"{entry}{path} is no flat mapping of names to tensors: {fault}. {_choices(content)}"
        )
    if not taken:
        raise DataError(
            f"{path}: no tensor name matches cataloging.names={selection.names!r}; the first names "
            f"are {', '.join(list(value)[:3])}."
        )
    _refuse_complex(taken, path)
    return taken


def _fault(value: Any, taken: Mapping[str, Any]) -> str | None:
    """Return why a value is no state dict, None where it is one."""
    if not isinstance(value, Mapping):
        return f"it is of type {type(value).__name__}"
    for name, item in taken.items():
        if not isinstance(item, torch.Tensor):
            return f"{name!r} is of type {type(item).__name__}"
    return None if value else "it is empty"


def _at(content: Any, entry: str | None) -> Any:
    """Return what lies at a dotted way inside mappings and lists."""
    for part in entry.split(".") if entry else []:
        if isinstance(content, Mapping):
            content = content[part]
        else:
            content = content[int(part)]
    return content


def _taken(value: Any, names: str | None) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {}
    return {
        str(name): item
        for name, item in value.items()
        if names is None or re.search(names, str(name))
    }


def _choices(content: Any) -> str:
    """Return what a user can give as entry."""
    entries = _entries(content)
    if entries == [""]:
        return "The file itself is one: leave cataloging.entry null."
    if not entries:
        return "None of its entries is one: leave others out with cataloging.names."
    return f"These entries are: {', '.join(entries)}. Give one as cataloging.entry."


def _entries(content: Any, way: str = "") -> list[str]:
    """Return the dotted ways to all state dicts."""
    items: list[tuple[Any, Any]] = []
    if isinstance(content, Mapping) and all(isinstance(key, str) for key in content):
        if content and all(isinstance(v, torch.Tensor) for v in content.values()):
            return [way]
        items = list(content.items())
    elif isinstance(content, list | tuple):
        items = list(enumerate(content))
    return [
        found
        for key, value in items
        for found in _entries(value, f"{way}.{key}" if way else str(key))
    ]


def _refuse_complex(tensors: Mapping[str, Tensor], path: Path) -> None:
    for name, tensor in tensors.items():
        if tensor.is_complex():
            raise DataError(
                f"{path}: tensor {name!r} is complex, which cannot be combined; leave it out with "
                "cataloging.names."
            )


def _without_prefix(
    tensors: Mapping[str, Tensor], path: Path, prefix: str | None
) -> dict[str, Tensor]:
    """Return tensors without gradients under names without the prefix."""
    short = {name: name.removeprefix(prefix or "") for name in tensors}
    if prefix and not any(name.startswith(prefix) for name in tensors):
        raise DataError(
            f"{path}: no tensor name begins with cataloging.strip_prefix={prefix!r}; the first is "
            f"{next(iter(tensors))!r}."
        )
    if len(set(short.values())) < len(short):
        raise DataError(
            f"{path}: without cataloging.strip_prefix={prefix!r} two tensors have the same name; "
            "take one kind of them with cataloging.names."
        )
    return {short[name]: tensor.detach() for name, tensor in tensors.items()}
