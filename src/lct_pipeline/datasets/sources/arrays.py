"""Images in a NumPy array: an .npy, or one of an .npz, read image by image.

The values lie one after the other behind a short header, so an image is a slice of the file: of an
.npy, or of the member of an .npz, which may be compressed. Nothing is loaded as a whole.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import IO

import numpy as np

from lct_pipeline.datasets.sources.base import (
    MEBIBYTE,
    ImageSource,
    RawImage,
    SourceOptions,
    digest_of,
    stamp,
)
from lct_pipeline.datasets.sources.labels import (
    Labels,
    choose_labels,
    mention_unused,
    refuse_column,
    refuse_csv,
    refuse_image_column,
    shared,
)
from lct_pipeline.errors import DataError

BUILT_IN = "digits"

_USUAL_KEYS = ("images", "arr_0")
_HEADERS = {  # by versions of the format
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_DAMAGE = (LookupError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)

Header = tuple[tuple[int, ...], bool, np.dtype]  # shape, whether in Fortran order, type


class ArraySource(ImageSource):
    """The images of an array, uint8: (N, H, W), (N, H, W, 1 or 3) or (N, 1 or 3, H, W).

    Args:
        path: An .npy; or an .npz, of which ``image_column`` names the array, and with ``labels:
            column`` ``label_column`` that of the labels, (N,).
        options: How it is read.

    Raises:
        DataError: There are no such arrays, or they are damaged.
    """

    def __init__(self, path: Path, options: SourceOptions) -> None:
        refuse_csv(str(path), options)
        self._path = path
        self._key = _choose_key(path, options)
        with _open(path, self._key) as (_, header):
            self._channels_at = _channels_at(header, str(path), options)
            self._shape = header[0]
        self._labels = _read_labels(path, len(self), options)
        others = [key for key in _keys(path) or [] if key != self._key]
        mention_unused(str(path), others, options)
        self.fingerprint = digest_of([stamp(path), repr(self._labels)])

    def __len__(self) -> int:
        """Number of images."""
        return self._shape[0]

    def read(self, start: int, stop: int) -> Iterator[RawImage]:
        """Yield the images as grey (H, W) or RGB (H, W, 3) pixels."""
        num_bytes = prod(self._shape[1:])
        with _open(self._path, self._key) as (file, _):
            file.seek(start * num_bytes, os.SEEK_CUR)
            for number in range(start, min(stop, len(self))):
                values = file.read(num_bytes)
                if len(values) < num_bytes:
                    raise EOFError(f"only {number} images of {len(self)} are there")
                pixels = np.frombuffer(values, np.uint8).reshape(self._shape[1:])
                name = f"{self._key or self._path.name}[{number}]"
                yield RawImage(name, self._channels_last(pixels), self._labels[number])

    def _channels_last(self, pixels: np.ndarray) -> np.ndarray:
        if self._channels_at is None:
            return pixels
        last = np.moveaxis(pixels, self._channels_at, -1)
        return last[..., 0] if last.shape[-1] == 1 else last


@contextmanager
def _open(path: Path, key: str | None) -> Iterator[tuple[IO[bytes], Header]]:
    """Yield the values of an .npy, or of that in an .npz which ``key`` names, and their header.

    Raises:
        DataError: They are damaged or cut short.
    """
    try:
        if key is None:
            with path.open("rb") as file:
                yield file, _HEADERS[np.lib.format.read_magic(file)](file)
        else:
            with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as file:
                yield file, _HEADERS[np.lib.format.read_magic(file)](file)
    except _DAMAGE as error:
        raise DataError(
            f"{path} cannot be read as a NumPy file ({error}): it is damaged or cut short. Copy or "
            "download it again."
        ) from error


def _choose_key(path: Path, options: SourceOptions) -> str | None:
    """Return which array of an .npz holds the images, None for an .npy."""
    keys = _keys(path)
    if keys is None:
        refuse_image_column(str(path), options)
        return None
    others = [key for key in keys if key != options.label_column]
    usual = [key for key in _USUAL_KEYS if key in keys]
    if options.image_column in keys:
        return options.image_column
    if options.image_column or not (usual or len(others) == 1):
        raise DataError(
            f"{path} has the arrays {', '.join(keys) or 'none'}: set ingestion.image_column to "
            "that of the images."
        )
    return (usual or others)[0]


def _keys(path: Path) -> list[str] | None:
    """Return the names of the arrays of an .npz, None for an .npy."""
    if path.suffix.lower() == ".npy":
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (*_DAMAGE, OSError) as error:
        raise DataError(f"{path} cannot be read as an .npz: {error}.") from error
    return [name.removesuffix(".npy") for name in names if name.endswith(".npy")]


def _channels_at(header: Header, source: str, options: SourceOptions) -> int | None:
    """Return which axis of an image is that of the channels, None for grey (N, H, W).

    Raises:
        DataError: The array is not one of images.
    """
    shape, in_fortran_order, dtype = header
    found = f"{source}: an array of {dtype}, shape {shape}"
    if dtype != np.uint8:
        raise DataError(
            f"{found}. Images are uint8 from 0 to 255: of values from 0 to 1, save "
            "(255 * images).round().astype('uint8'); bring others there first."
        )
    if in_fortran_order:
        raise DataError(
            f"{found}, in Fortran order: save np.ascontiguousarray(images)."
        )
    if prod(shape[1:]) > options.max_mib * MEBIBYTE:
        raise DataError(
            f"{found}: its images exceed ingestion.max_mib={options.max_mib}."
        )
    for axis in (2, 0):  # of an image: last, first
        if len(shape) == 4 and shape[1 + axis] in (1, 3) and min(shape) > 0:
            return axis
    if len(shape) == 3 and min(shape) > 0:
        return None
    raise DataError(
        f"{found}. Images are (N, H, W), (N, H, W, 1 or 3) or (N, 1 or 3, H, W)."
    )


def _read_labels(path: Path, num_images: int, options: SourceOptions) -> Labels:
    """Return the labels that stand in another array of an .npz, or none."""
    if options.labels != "column":
        return [None] * num_images
    key, keys = options.label_column, _keys(path) or []
    if key not in keys:
        raise DataError(
            f"ingestion.label_column={key!r}: {path} has no such array; there are: "
            f"{', '.join(keys) or 'no arrays beside the images'}. Or set ingestion.labels=none."
        )
    with _open(path, key) as (file, (shape, _, dtype)):
        if shape not in ((num_images,), (num_images, 1)) or dtype.kind not in "iuUb":
            raise DataError(
                f"ingestion.label_column={key!r} of {path} is of {dtype}, shape "
                f"{shape}: labels are {num_images} whole numbers or texts."
            )
        values = np.frombuffer(file.read(num_images * dtype.itemsize), dtype)
    return shared(str(value) for value in values.tolist())


class DigitsSource(ImageSource):
    """The 1,797 scanned handwritten digits, 8x8 grey, that scikit-learn ships."""

    def __init__(self, options: SourceOptions) -> None:
        from sklearn.datasets import load_digits

        refuse_column(BUILT_IN, options)
        refuse_image_column(BUILT_IN, options)
        digits = load_digits()
        pixels = (digits.images * (255 / 16)).round().astype(np.uint8)
        names = [f"digit-{number:04d}" for number in range(len(pixels))]
        labels = choose_labels(names, map(str, digits.target), options)
        self._images = list(map(RawImage, names, pixels, labels))
        self.fingerprint = digest_of(f"{i.digest}:{i.label!r}" for i in self._images)

    def __len__(self) -> int:
        """Number of digits."""
        return len(self._images)

    def read(self, start: int, stop: int) -> Iterator[RawImage]:
        """Yield the digits in scikit-learn's order."""
        yield from self._images[start:stop]
