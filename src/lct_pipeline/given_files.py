"""Files that others may have put there: looked at before anything opens or runs them."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from lct_pipeline.errors import DataError

INDEX_SUFFIX = ".index.json"  # of a list of shards, as diffusers and transformers write
_MALFORMED = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RecursionError,
)
_KERNEL = ("/proc", "/sys")  # whose files are regular by name; some have no end
_KINDS = {stat.S_IFDIR: "folder", stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket"}
# the names of files in an index, by how it is called; the others are of Hugging Face datasets
_NAMES: dict[str, Callable[[Any], list[Any]]] = {
    INDEX_SUFFIX: lambda index: list(dict.fromkeys(index["weight_map"].values())),
    "state.json": lambda index: [f["filename"] for f in index.get("_data_files", ())],
    "dataset_dict.json": lambda index: list(index["splits"]),
}


def regular_file(path: Path) -> Path:
    """Return the path of a regular file, which may be behind links. It is not opened.

    To open a FIFO waits for a writer, and a device may be read without end.

    Raises:
        DataError: Something else is there.
        OSError: Nothing is, or it cannot be reached.
    """
    kind, target = stat.S_IFMT(path.stat().st_mode), _real(path)
    is_of_kernel = any(target.is_relative_to(top) for top in _KERNEL)
    if kind == stat.S_IFREG and not is_of_kernel:
        return path
    found = "file of the kernel" if is_of_kernel else _KINDS.get(kind, "device")
    behind = f" (a link to {target})" if path.is_symlink() else ""
    raise DataError(
        f"{path}{behind} is a {found}, not a regular file: it is not opened. Give a file, or "
        "take this out of its folder."
    )


def indexed_file(index: Path, name: Any, folder: Path | None = None) -> Path:
    """Return the file that an index names, which has to be of its folder and may be missing.

    A link may lead to another file of the folder; and, in the cache of the Hugging Face hub, where
    every file is a link, to the ``blobs`` beside.

    Args:
        index: The index, for the message.
        name: What it says.
        folder: The folder of the file; None: that of the index.

    Raises:
        DataError: The name, or the link, leads out of the folder.
    """
    folder = folder or index.parent
    is_plain = isinstance(name, str) and not set(name) & set("/\\:\0")
    if not is_plain or name in ("", ".", ".."):
        raise DataError(
            f"{index} names {name!r}, which is not the name of a file of its folder: nothing is "
            "read from elsewhere. Copy the folder again from a place that you trust."
        )
    inside, target = [_real(folder)], _real(folder / name)
    if inside[0].parent.name == "snapshots":
        inside.append(inside[0].parents[1] / "blobs")
    if not any(target.is_relative_to(place) for place in inside):
        raise DataError(
            f"{index} names {name!r}, a link that leads out of its folder, to {target}: nothing is "
            "read from elsewhere. Put the file itself there."
        )
    return folder / name


def listed_files(index: Path) -> list[Path]:
    """Return the files that an index of shards lists, each once; they may be missing.

    Raises:
        DataError: It is damaged, or names one outside of its folder.
    """
    names = next(names for end, names in _NAMES.items() if index.name.endswith(end))
    try:
        found = names(json.loads(regular_file(index).read_bytes()))
    except _MALFORMED as error:
        raise DataError(
            f"{index} cannot be read ({type(error).__name__}: {error}): it is no index of shards, "
            "or damaged. Copy the whole folder again."
        ) from error
    return [indexed_file(index, name) for name in found]


def check_folder(folder: Path) -> None:
    """Look at all files of a folder that a library is going to read.

    Raises:
        DataError: One is not a regular file, or is an index that names one elsewhere.
    """
    for parent, _, names in os.walk(folder):
        for path in (Path(parent, name) for name in names):
            if path.exists():  # a library says which link to nothing it needs
                regular_file(path)
            if path.name in _NAMES or path.name.endswith(INDEX_SUFFIX):
                listed_files(path)


def private_folder(name: str) -> Path:
    """Return a folder in the user's cache that nobody else may enter; it is made where missing.

    Raises:
        DataError: It cannot be made, or lies where other users could put another.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(cache, "lct_pipeline", name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise DataError(
            f"{folder} cannot be made ({error.strerror}). Set XDG_CACHE_HOME to a folder of your "
            "own that can be written."
        ) from error
    refuse_replaceable(folder)
    return folder


def refuse_replaceable(path: Path) -> None:
    """Refuse code, a file or a folder, that any other user of the machine could replace.

    Everybody may write to it, or to a folder above it; where that has the sticky bit, as the
    system's temporary folder has, what lies in it has to be one's own or the system's.

    Raises:
        DataError: It is so.
    """
    if not hasattr(os, "getuid"):  # Windows has other permissions
        return
    target = _real(path)
    for place, above in pairwise((target, *target.parents, Path(target.anchor))):
        status, is_in_shared = place.stat(), above.stat().st_mode & stat.S_IWOTH
        is_sticky = place.is_dir() and status.st_mode & stat.S_ISVTX
        is_open = status.st_mode & stat.S_IWOTH and not is_sticky
        if is_open or (is_in_shared and status.st_uid not in (0, os.getuid())):
            raise DataError(
                f"{path} holds code, which is run, and other users of this machine can replace it: "
                f"{place} is not yours alone to write. Copy it to a folder of your own, or take "
                "that right from the others (chmod o-w)."
            )


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))
