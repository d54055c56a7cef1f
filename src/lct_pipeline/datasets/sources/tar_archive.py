"""Images in tar files: one archive, or the shards of a WebDataset."""

from __future__ import annotations

import hashlib
import logging
import tarfile
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import IO

from lct_pipeline.datasets.sources.base import (
    ImageSource,
    RawImage,
    RefusedEntryError,
    SourceOptions,
    digest_of,
    refuse_large,
    stamp,
)
from lct_pipeline.datasets.sources.labels import Labels, choose_labels
from lct_pipeline.datasets.sources.names import (
    Names,
    folder_of,
    is_image_name,
    readable,
    refused_name,
)
from lct_pipeline.datasets.sources.sample_labels import SampleLabels
from lct_pipeline.datasets.sources.tar_stream import open_tar, scan_tar

logger = logging.getLogger(__name__)

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")


@dataclass(frozen=True)
class _Member:
    """An image in a tar file."""

    name: str
    offset: int
    size: int
    mtime: float
    refused: str | None  # why it is not read


class TarSource(ImageSource):
    """All image members of tar files, in the order of the archives, which are read forwards.

    Members of one directory and base name up to its first dot are a sample, as in a WebDataset.
    The label of a sample is its ``.cls``, else ``label`` or ``cls`` of its ``.json``, else the
    folder it lies in; with ``labels: column``, ``label_column`` of its ``.json``. A ``.txt`` is a
    caption, not a label. Links and devices are entries with a problem.

    Args:
        archives: The files by their names, which go before those of their members; ``""`` for none.
        options: How they are read.

    Raises:
        DataError: An archive is damaged or cut short.
    """

    def __init__(self, archives: dict[str, Path], options: SourceOptions) -> None:
        self._paths, self._max_mib = list(archives.values()), options.max_mib
        self._names = Names()
        self._offsets, self._sizes = array("q"), array("q")
        self._refused: dict[int, str] = {}
        self._ends: list[int] = []  # of each archive, in entries
        own, sha = Labels(), hashlib.sha256()
        for prefix, path in archives.items():
            sha.update(stamp(path).encode())
            for member, label in _list_images(path, options):
                own.append(label)
                self._append(prefix, member)
                sha.update(repr(member).encode("utf-8", "surrogatepass"))
            self._ends.append(len(self._names))
        self._labels = choose_labels(self._names, own, options)
        self.fingerprint = digest_of([sha.hexdigest()], self._labels.digest)

    def __len__(self) -> int:
        """Number of image members."""
        return len(self._names)

    def fingerprint_of(self, start: int, stop: int) -> str:
        """Return what changes when one of these members, its label or its archive does."""
        begins = [0, *self._ends]
        archives = (
            stamp(path)
            for path, begin, end in zip(self._paths, begins, self._ends, strict=False)
            if begin < stop and start < end
        )
        members = (
            f"{self._names[n]}:{self._offsets[n]}:{self._labels[n]}"
            for n in range(start, min(stop, len(self)))
        )
        return digest_of(chain(archives, members))

    def read(self, start: int, stop: int) -> Iterator[RawImage]:
        """Yield the members' bytes; a compressed archive is decompressed from its start."""
        begin = 0
        for path, end in zip(self._paths, self._ends, strict=True):
            numbers = range(max(start, begin), min(stop, end))
            if numbers:
                with open_tar(path) as stream:
                    for number in numbers:
                        yield self._entry(stream, number)
            begin = end

    def _append(self, prefix: str, member: _Member) -> None:
        if member.refused is not None:
            self._refused[len(self._names)] = member.refused
        self._names.append(f"{prefix}/{member.name}" if prefix else member.name)
        self._offsets.append(member.offset)
        self._sizes.append(member.size)

    def _entry(self, stream: IO[bytes], number: int) -> RawImage:
        name, label = self._names[number], self._labels[number]
        try:
            return RawImage(name, self._content(stream, number), label)
        except RefusedEntryError as problem:
            return RawImage(name, b"", label, str(problem))

    def _content(self, stream: IO[bytes], number: int) -> bytes:
        if number in self._refused:
            raise RefusedEntryError(self._refused[number])
        size = self._sizes[number]
        refuse_large(size, self._max_mib)
        stream.seek(self._offsets[number])
        content = stream.read(size)
        if len(content) < size:
            raise EOFError(f"{self._names[number]} is cut short")
        return content


def _list_images(
    path: Path, options: SourceOptions
) -> Iterator[tuple[_Member, str | None]]:
    """Yield the images of an archive with their labels."""
    num_others = 0
    with open_tar(path) as stream:
        for _, members in groupby(scan_tar(stream), _key):
            images, label, others = _read_sample(stream, members, options)
            num_others += others
            for image in images:
                by_folder = options.labels == "folders" and label is None
                yield image, folder_of(image.name) if by_folder else label
    if num_others:
        logger.info("%d members of %s are no images.", num_others, path.name)


def _key(member: tarfile.TarInfo) -> str:
    """Return what the members of a sample have in common."""
    folder, slash, base = member.name.rpartition("/")
    return folder + slash + base.partition(".")[0]


def _read_sample(
    stream: IO[bytes], members: Iterable[tarfile.TarInfo], options: SourceOptions
) -> tuple[list[_Member], str | None, int]:
    """Return the images of a sample, its label, and how many members are neither."""
    images, labels, num_others = [], SampleLabels(options), 0
    for member in members:
        if is_image_name(member.name) and not member.isdir():
            images.append(_member(member))
        elif labels.may_be_in(member):
            stream.seek(member.offset_data)
            labels.add(member.name, stream.read(member.size))
        elif not member.isdir():
            num_others += 1
    return images, labels.chosen, num_others


def _member(info: tarfile.TarInfo) -> _Member:
    name = info.name.removeprefix("./")
    refused = refused_name(name) or _refused_kind(info)
    return _Member(readable(name), info.offset_data, info.size, info.mtime, refused)


def _refused_kind(info: tarfile.TarInfo) -> str | None:
    """Return why a member of this kind is not read, None for a plain file."""
    if info.issym() or info.islnk():
        return "a link"
    if info.issparse():
        return "a sparse file"
    return None if info.isreg() else "not a regular file"
