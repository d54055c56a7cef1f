"""Images in a folder and the folders below it."""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from lct_pipeline.datasets.sources.base import (
    ImageSource,
    RawImage,
    RefusedEntryError,
    SourceOptions,
    digest_of,
    entry,
    is_hidden,
    is_image_name,
    read_bounded,
    readable,
    refuse_large,
    stamp,
)
from lct_pipeline.datasets.sources.labels import choose_labels, refuse_column
from lct_pipeline.datasets.sources.own_labels import own_labels
from lct_pipeline.datasets.sources.samples import chosen_pictures
from lct_pipeline.errors import DataError
from lct_pipeline.given_files import regular_file

logger = logging.getLogger(__name__)

# errors that stay when the run is continued; others, as of a network disk, stop it
_OF_ONE_FILE = {errno.ENOENT, errno.EACCES, errno.ELOOP}


class FolderSource(ImageSource):
    """All image files below a folder, in the order of their names.

    Labels are those of a ``dataset.json``, else the folders that images lie in.

    Symbolic links are read where they lead to a file inside the folder. Others are entries with a
    problem, links to folders elsewhere too; folders behind links are never entered.
    """

    def __init__(self, folder: Path, options: SourceOptions) -> None:
        refuse_column(str(folder), options)
        self._folder = os.path.realpath(folder)
        self._max_mib = options.max_mib
        files = list(walk(self._folder))
        names = sorted(
            name for name, is_outside in files if is_outside or is_image_name(name)
        )
        self._names = [names[n] for n in chosen_pictures(names, str(folder), options)]
        if num_others := len(files) - len(names):
            logger.info("%d files without an image's suffix are ignored.", num_others)
        shown = [readable(name) for name in self._names]
        of_files = (name for name, _ in files)
        own = own_labels(shown, of_files, self._content, str(folder))
        self._labels = choose_labels(shown, own, options)
        self.fingerprint = self.fingerprint_of(0, len(self))

    def __len__(self) -> int:
        """Number of files."""
        return len(self._names)

    def fingerprint_of(self, start: int, stop: int) -> str:
        """Return what changes when one of these files, its name or its label does."""
        chosen = zip(self._names[start:stop], self._labels[start:stop], strict=True)
        return digest_of(f"{n}:{stamp(self._path(n))}:{label!r}" for n, label in chosen)

    def read(self, start: int, stop: int) -> Iterator[RawImage]:
        """Yield the files' bytes."""
        chosen = zip(self._names[start:stop], self._labels[start:stop], strict=True)
        for name, label in chosen:
            yield entry(readable(name), label, partial(self._content, name))

    def _content(self, name: str) -> bytes:
        path = self._path(name)
        if os.path.islink(path) and _leads_outside(path, self._folder):
            raise RefusedEntryError("a symbolic link that leads out of the folder")
        try:
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode):
                raise RefusedEntryError("not a regular file")
            refuse_large(status.st_size, self._max_mib)
            with open(path, "rb") as file:
                return read_bounded(file, self._max_mib)
        except OSError as error:
            if error.errno not in _OF_ONE_FILE:
                raise
            raise RefusedEntryError(f"cannot be read: {error.strerror}") from error

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, name)


def walk(folder: str) -> Iterator[tuple[str, bool]]:
    """Yield relative names of the files below a folder that are not hidden, with ``/``.

    With each: whether it is a link to a folder elsewhere. Links to folders are not followed.
    """
    for parent, folders, files in os.walk(folder, onerror=_refuse_unlisted):
        folders[:] = [name for name in folders if not is_hidden(name)]
        base = os.path.relpath(parent, folder).replace(os.sep, "/")
        prefix = "" if base == "." else f"{base}/"
        for name in folders:
            path = os.path.join(parent, name)
            if os.path.islink(path) and _leads_outside(path, folder):
                yield prefix + name, True
        for name in files:
            if not is_hidden(name):
                yield prefix + name, False


def files_below(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Return the files below a folder by their names, in order, of those with a suffix.

    Raises:
        DataError: One is a symbolic link that leads out of the folder.
    """
    root = os.path.realpath(folder)
    found = (name for name, _ in walk(root) if name.lower().endswith(suffixes))
    files = {name: Path(root, name) for name in sorted(found)}
    for path in files.values():
        if path.is_symlink() and _leads_outside(str(path), root):
            raise DataError(f"{path} is a symbolic link that leads out of the folder.")
        regular_file(path)
    return files


def _leads_outside(path: str, folder: str) -> bool:
    """Return whether a link's target is not below ``folder``, which is free of links itself."""
    return os.path.commonpath([os.path.realpath(path), folder]) != folder


def _refuse_unlisted(error: OSError) -> None:
    raise DataError(f"{error.filename} cannot be listed: {error.strerror}.")
