"""Where images come from: the built-in digits, a folder, or a zip."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np
from kedro.io import AbstractDataset

from lct_pipeline.errors import DataError

BUILT_IN = "digits"
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")

# what zipfile raises on a damaged, encrypted or strangely compressed member
_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
)


@dataclass(frozen=True)
class RawImage:
    """One entry of a source: the bytes of its file, or grey pixels ``(H, W)``, uint8."""

    name: str
    content: bytes | np.ndarray
    label: str | None

    @property
    def digest(self) -> str:
        """SHA-256 of the content, which fixes the image's split."""
        raw = (
            self.content if isinstance(self.content, bytes) else self.content.tobytes()
        )
        return hashlib.sha256(raw).hexdigest()


class ImageSource(Protocol):
    """A series of images in a fixed order, read one at a time."""

    fingerprint: str

    def __len__(self) -> int:
        """Number of entries."""
        ...

    def read(self, start: int, stop: int) -> Iterator[RawImage]:
        """Yield the entries from ``start`` to ``stop``."""
        ...


class DigitsSource:
    """The 1,797 scanned handwritten digits, 8x8 grey, that scikit-learn ships."""

    def __init__(self) -> None:
        from sklearn.datasets import load_digits

        digits = load_digits()
        self._images = (digits.images * (255 / 16)).round().astype(np.uint8)
        self._labels = digits.target
        self.fingerprint = _digest(
            [BUILT_IN, hashlib.sha256(self._images.tobytes()).hexdigest()]
        )

    def __len__(self) -> int:
        """Number of digits."""
        return len(self._images)

    def read(self, start: int, stop: int) -> Iterator[RawImage]:
        """Yield the digits in scikit-learn's order."""
        for number in range(start, min(stop, len(self))):
            yield RawImage(
                f"digit-{number:04d}", self._images[number], str(self._labels[number])
            )


class FolderSource:
    """All image files below a folder, in the order of their names; sub-folders are labels."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = sorted(
            (
                path
                for path in folder.rglob("*")
                if path.suffix.lower() in SUFFIXES
                and _visible(path.relative_to(folder))
                and path.is_file()
            ),
            key=self._name,
        )
        self.fingerprint = _digest(
            [f"{self._name(p)}:{_stamp(p)}" for p in self._files]
        )

    def __len__(self) -> int:
        """Number of files."""
        return len(self._files)

    def read(self, start: int, stop: int) -> Iterator[RawImage]:
        """Yield the files' bytes."""
        for path in self._files[start:stop]:
            name = self._name(path)
            yield RawImage(name, path.read_bytes(), _label(name))

    def _name(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()


class ZipSource:
    """All image members of a zip, in the order of their names; folders are labels."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.infolist()
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(
                f"ingestion.source={str(path)!r} cannot be read as a zip ({error}): it is "
                "damaged or cut short. Copy or download it again."
            ) from error
        self._members = sorted(
            (m for m in members if _is_image_member(m)),
            key=lambda member: member.filename,
        )
        self.fingerprint = _digest(
            [f"{m.filename}:{m.CRC}:{m.file_size}" for m in self._members]
        )

    def __len__(self) -> int:
        """Number of members."""
        return len(self._members)

    def read(self, start: int, stop: int) -> Iterator[RawImage]:
        """Yield the members' bytes; one that cannot be read yields none of them."""
        with zipfile.ZipFile(self._path) as archive:
            for member in self._members[start:stop]:
                try:
                    content = archive.read(member)
                except _UNREADABLE:
                    content = b""
                yield RawImage(member.filename, content, _label(member.filename))


def open_source(source: str) -> ImageSource:
    """Return the images that ``ingestion.source`` names.

    Raises:
        DataError: There is no such folder or zip, or it holds no image file.
    """
    if source == BUILT_IN:
        return DigitsSource()
    path = Path(source).expanduser()
    if not path.exists():
        raise DataError(
            f"ingestion.source={source!r} does not exist. Give a folder or a .zip of images, or "
            f"{BUILT_IN!r} for the built-in ones."
        )
    if path.is_file() and path.suffix.lower() != ".zip":
        raise DataError(f"ingestion.source={source!r} is neither a folder nor a .zip.")
    images: ImageSource = FolderSource(path) if path.is_dir() else ZipSource(path)
    if len(images) == 0:
        raise DataError(
            f"ingestion.source={source!r} holds no image: none of {', '.join(SUFFIXES)} below it."
        )
    return images


class ImageSourceDataset(AbstractDataset[None, ImageSource]):
    """``ImageSourceDataset`` opens the images that are to be ingested.

    Args:
        source: The built-in ``digits``, a folder, or a zip.
        metadata: Anything, for plugins such as kedro-viz.
    """

    def __init__(self, *, source: str, metadata: dict[str, Any] | None = None) -> None:
        self._source = source
        self.metadata = metadata

    def load(self) -> ImageSource:
        """Return the source; images are read when they are asked for."""
        return open_source(self._source)

    def save(self, data: None) -> None:
        """Sources are only read."""
        raise DataError("an image source cannot be written.")

    def _describe(self) -> dict[str, Any]:
        return {"source": self._source}


def _visible(relative: Path) -> bool:
    return not any(part.startswith((".", "__MACOSX")) for part in relative.parts)


def _is_image_member(member: zipfile.ZipInfo) -> bool:
    path = PurePosixPath(member.filename)
    return (
        path.suffix.lower() in SUFFIXES and _visible(Path(path)) and not member.is_dir()
    )


def _label(name: str) -> str | None:
    """Return the folder that an image lies in, None at the top."""
    parent = PurePosixPath(name).parent.name
    return parent or None


def _stamp(path: Path) -> str:
    stat = path.stat()
    return f"{stat.st_size}:{stat.st_mtime_ns}"


def _digest(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
