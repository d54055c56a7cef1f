"""Images in tar files: one archive, or the shards of a WebDataset, read forwards in bounded memory.

``tarfile`` reads the headers; what it would do with hostile ones is kept from it here: it reads a
long name of any size in one piece, follows a negative size for ever (until 3.11.14), and takes a
damaged header for the end. Gzip and bzip2 are known. An .xz asks for as much memory as it likes, so
none is opened.
"""

from __future__ import annotations

import bz2
import gzip
import json
import logging
import tarfile
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from typing import IO, Any, cast

from lct_pipeline.datasets.sources.base import (
    MEBIBYTE,
    ImageSource,
    RawImage,
    RefusedEntryError,
    SourceOptions,
    digest_of,
    entry,
    is_image_name,
    readable,
    refuse_large,
    refused_name,
    stamp,
)
from lct_pipeline.datasets.sources.labels import LONGEST_LABEL, Labels, choose_labels
from lct_pipeline.datasets.sources.own_labels import LISTING, own_labels
from lct_pipeline.datasets.sources.samples import chosen_pictures
from lct_pipeline.errors import DataError

logger = logging.getLogger(__name__)

_LABEL_FILES = (".cls", ".json")  # suffixes
LARGEST_HEADER = MEBIBYTE  # of a member: long names and extended attributes
LARGEST_LISTING = 64 * MEBIBYTE  # names and classes of 1.5 million images

_DAMAGE = (
    tarfile.TarError,
    zlib.error,
    EOFError,
    ValueError,
    OverflowError,
    RecursionError,
)

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2")


class TarSource(ImageSource):
    """All image members of tar files, in the order of the archives, which are read forwards.

    Members of one directory and base name up to its first dot are a sample, as in a WebDataset.
    The label of a sample is its ``.cls``, else ``label`` or ``cls`` of its ``.json``; where no
    sample has one, that of a ``dataset.json`` or the folder that it lies in. With ``labels:
    column`` it is ``label_column`` of its ``.json``. A ``.txt`` is a caption, not a label. Links
    and devices are entries with a problem.

    Args:
        archives: The files by their names, which go before those of their members; ``""`` for none.
        options: How they are read.

    Raises:
        DataError: An archive is damaged or cut short.
    """

    def __init__(self, archives: dict[str, Path], options: SourceOptions) -> None:
        self._paths, self._max_mib = list(archives.values()), options.max_mib
        self._names: list[str] = []
        self._offsets, self._sizes = array("q"), array("q")
        self._refused: dict[int, str] = {}
        self._ends: list[int] = []  # of each archive, in entries
        of_samples: Labels = []
        listings: list[dict[str, bytes]] = []
        for prefix, path in archives.items():
            listings.append({})
            for member, label in _list_images(path, options, listings[-1]):
                of_samples.append(label)
                self._append(prefix, member)
            self._ends.append(len(self._names))
        chosen = chosen_pictures(self._names, str(self._paths[0]), options)
        self._keep(chosen)
        own: Iterable[str | None] = [of_samples[n] for n in chosen]
        if options.labels == "folders" and not any(of_samples):
            own = self._labels_otherwise(archives, listings)
        self._labels = choose_labels(self._names, own, options)
        self.fingerprint = self.fingerprint_of(0, len(self))

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
        chosen = range(start, min(stop, len(self)))
        members = (
            f"{self._names[n]}:{self._offsets[n]}:{self._labels[n]!r}" for n in chosen
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
                        content = partial(self._content, stream, number)
                        yield entry(self._names[number], self._labels[number], content)
            begin = end

    def _append(self, prefix: str, member: tarfile.TarInfo) -> None:
        name = member.name.removeprefix("./")
        refusal = refused_name(name) or _refused_kind(member)
        if refusal is not None:
            self._refused[len(self._names)] = refusal
        self._names.append(f"{prefix}/{readable(name)}" if prefix else readable(name))
        self._offsets.append(member.offset_data)
        self._sizes.append(member.size)

    def _keep(self, chosen: Sequence[int]) -> None:
        """Leave out all members but those at some places, which rise."""
        self._names = [self._names[n] for n in chosen]
        self._offsets = array("q", (self._offsets[n] for n in chosen))
        self._sizes = array("q", (self._sizes[n] for n in chosen))
        refused = ((n, self._refused.get(old)) for n, old in enumerate(chosen))
        self._refused = {n: reason for n, reason in refused if reason is not None}
        self._ends = [bisect_left(chosen, end) for end in self._ends]

    def _labels_otherwise(
        self, archives: dict[str, Path], listings: list[dict[str, bytes]]
    ) -> Iterator[str | None]:
        """Yield the labels of a ``dataset.json`` or of folders, archive by archive."""
        begins = [0, *self._ends]
        for (prefix, path), found, *place in zip(
            archives.items(), listings, begins, self._ends, strict=False
        ):
            inside = [n.removeprefix(f"{prefix}/") for n in self._names[slice(*place)]]
            yield from own_labels(inside, found, found.__getitem__, str(path))

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
    path: Path, options: SourceOptions, listings: dict[str, bytes]
) -> Iterator[tuple[tarfile.TarInfo, str | None]]:
    """Yield the images of an archive with the labels of their samples; note a ``dataset.json``."""
    num_others = 0
    with open_tar(path) as stream:
        for key, members in groupby(scan_tar(stream), _key):
            images, about, others = _read_sample(stream, members)
            num_others += others
            if f"{key}.json".endswith(LISTING) and not listings and ".json" in about:
                listings[f"{key}.json".removeprefix("./")] = about[".json"]
            label = _sample_label(about, options)
            for image in images:
                yield image, label
    if num_others:
        logger.info("%d members of %s are no images.", num_others, path.name)


def _key(member: tarfile.TarInfo) -> str:
    """Return what the members of a sample have in common."""
    folder, slash, base = member.name.rpartition("/")
    return folder + slash + base.partition(".")[0]


def _read_sample(
    stream: IO[bytes], members: Iterable[tarfile.TarInfo]
) -> tuple[list[tarfile.TarInfo], dict[str, bytes], int]:
    """Return the images of a sample, what may hold its label, and how many members are neither."""
    images: list[tarfile.TarInfo] = []
    about: dict[str, bytes] = {}
    num_others = 0
    for member in members:
        suffix = f".{member.name.rpartition('.')[2].lower()}"
        is_listing = member.name.endswith(LISTING)
        limit = LARGEST_LISTING if is_listing else LARGEST_HEADER
        may_be_label = member.isreg() and member.size <= limit
        if is_image_name(member.name) and not member.isdir():
            images.append(member)
        elif suffix in _LABEL_FILES and may_be_label:
            stream.seek(member.offset_data)
            about.setdefault(suffix, stream.read(member.size))
        elif not member.isdir():
            num_others += 1
    return images, about, num_others


def _refused_kind(info: tarfile.TarInfo) -> str | None:
    """Return why a member of this kind is not read, None for a plain file."""
    if info.issym() or info.islnk():
        return "a link"
    if info.issparse():
        return "a sparse file"
    return None if info.isreg() else "not a regular file"


def _sample_label(about: dict[str, bytes], options: SourceOptions) -> str | None:
    """Return the label of a sample, None if there is none.

    Args:
        about: Contents of its members by the suffixes ``_LABEL_FILES``.
        options: With ``labels: folders``, ``.cls`` comes before ``label`` and ``cls`` of
            ``.json``; with ``column`` it is ``label_column`` of ``.json``; else there is none.
    """
    keys = {"folders": ("label", "cls"), "column": (options.label_column,)}
    fields = _parsed(about.get(".json", b""), json.loads)
    there = fields if isinstance(fields, dict) else {}
    found = [there[key] for key in keys.get(options.labels, ()) if key in there]
    if options.labels == "folders":
        found.insert(0, _parsed(about.get(".cls", b""), str.strip))
    texts = (str(value) for value in found if isinstance(value, str | int))
    usable = (readable(text) for text in texts if 0 < len(text) <= LONGEST_LABEL)
    return next(usable, None)


def _parsed(content: bytes, parse: Callable[[str], Any]) -> Any:
    """Return what a text says, None for what is no text or not of its kind."""
    try:
        return parse(content.decode())
    except (ValueError, RecursionError):
        return None


@contextmanager
def open_tar(path: Path) -> Iterator[IO[bytes]]:
    """Yield the bytes of a tar file; what compression it has is told from its first bytes.

    Raises:
        DataError: It is damaged or cut short.
    """
    try:
        with path.open("rb") as file:
            start = file.read(3)
            file.seek(0)
            if start == b"BZh":
                yield bz2.BZ2File(file)
            elif start.startswith(b"\x1f\x8b"):
                yield cast("IO[bytes]", gzip.GzipFile(fileobj=file))
            else:
                yield file
    except (*_DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk; that of a decompressor has no number
        raise DataError(
            f"{path} cannot be read as a tar file ({error}): it is damaged or cut short. Copy or "
            "download it again."
        ) from error


def scan_tar(stream: IO[bytes]) -> Iterator[tarfile.TarInfo]:
    """Yield the members of a tar, each of which may be read before the next is asked for.

    No list of them is kept.

    Raises:
        tarfile.TarError: Headers are damaged, claim more than a mebibyte, or lead backwards.
    """
    reads = _BoundedReads(stream)
    archive = tarfile.TarFile(fileobj=cast("IO[bytes]", reads))
    last = -1
    while (member := archive.next()) is not None:
        # a negative size, which older Pythons follow for ever
        if member.offset <= last:
            raise tarfile.ReadError("a member begins before the one that it follows")
        last = member.offset
        yield member
        archive.members.clear()  # type: ignore[attr-defined]
    if reads.last.strip(b"\0"):  # tarfile takes a damaged header for the end
        raise tarfile.ReadError(f"no header at byte {archive.offset}, but other data")


class _BoundedReads:
    """A stream for tarfile, which reads headers of whatever size they claim in one piece."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.tell, self.seek = stream.tell, stream.seek
        self.last = b""

    def read(self, size: int) -> bytes:
        if not 0 <= size <= LARGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        self.last = self._stream.read(size)
        return self.last
