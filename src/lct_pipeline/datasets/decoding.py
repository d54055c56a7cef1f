"""From the bytes of an image file to a square of RGB pixels, whoever wrote the file.

Time and memory are bounded by the size of the file and by ``max_pixels``: the header is judged
before a pixel is decoded, only the formats of :mod:`lct_pipeline.datasets.image_formats` are
opened, and a file of many frames is refused instead of decoded. Metadata are neither decompressed
nor parsed beyond what Pillow (from 13 on) bounds itself: text of a PNG file to 64 MiB, tags of
TIFF and EXIF to the size of the file.
"""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from lct_pipeline.datasets.image_formats import FORMATS, strip_jpeg_metadata

# Above this many pixels images are decoded one at a time, so that many threads do not need many
# times the memory of the largest image: up to 16 bytes a pixel.
_LARGE = 2**24
_one_large_image = threading.Lock()

# of odd metadata and large images; `catch_warnings` around each call is not safe in threads
warnings.filterwarnings("ignore", module=r"PIL\.")


class UndecodableImageError(Exception):
    """The bytes are not an image that can be used; the message is the reason."""


@dataclass(frozen=True)
class DecodedImage:
    """A square of pixels, and what it was cut from.

    Attributes:
        pixels: ``(3, size, size)``, uint8.
        width: Of the whole image, upright, in pixels.
        height: Of the whole image, upright, in pixels.
    """

    pixels: np.ndarray
    width: int
    height: int


def decode_image(
    content: bytes | np.ndarray, *, size: int, min_side: int, max_pixels: int
) -> DecodedImage:
    """Return the centre square of an image, resized to ``size``.

    The filter is Pillow's bicubic, which antialiases when it shrinks. Colours are those of
    :func:`decode_pixels`.

    Args:
        content: Bytes of a file, or pixels, uint8: grey ``(H, W)`` or RGB ``(H, W, 3)``.
        size: Side of the result.
        min_side: Shortest side that is accepted.
        max_pixels: Largest image that is decoded.

    Raises:
        UndecodableImageError: The content is no image, is damaged, animated, too small or too
            large.
    """
    with _decoded(content, min_side, max_pixels) as image:
        square = _centre_square(image, size)
        return DecodedImage(_channels_first(square), image.width, image.height)


def decode_pixels(
    content: bytes | np.ndarray, *, min_side: int, max_pixels: int
) -> np.ndarray:
    """Return a whole image as RGB pixels, ``(3, H, W)``, uint8.

    Rotated as its EXIF tag says, transparency over white, 16 bit scaled to 8, grey and palette to
    RGB; profiles are not applied. The format is told from the content, not from a name.

    Args:
        content: Bytes of a file, or pixels, uint8: grey ``(H, W)`` or RGB ``(H, W, 3)``.
        min_side: Shortest side that is accepted.
        max_pixels: Largest image that is decoded.

    Raises:
        UndecodableImageError: The content is no image, is damaged, animated, too small or too
            large.
    """
    with _decoded(content, min_side, max_pixels) as image:
        return _channels_first(image)


@contextmanager
def _decoded(
    content: bytes | np.ndarray, min_side: int, max_pixels: int
) -> Iterator[Image.Image]:
    """Yield an image upright and in RGB; large ones to one thread at a time."""
    try:
        image = _open(content)
        _check_size(image, min_side, max_pixels)
        is_large = image.width * image.height > _LARGE
        with _one_large_image if is_large else nullcontext():
            image.load()
            yield _to_rgb(ImageOps.exif_transpose(image))
    except UndecodableImageError:
        raise
    except Exception as error:  # Pillow's plugins raise what they like on damaged bytes
        raise UndecodableImageError(_reason(error)) from error


def _open(content: bytes | np.ndarray) -> Image.Image:
    """Return an image of one frame, of which at most the header is read."""
    if isinstance(content, np.ndarray):
        return Image.fromarray(content)
    if not content:
        raise UndecodableImageError("empty: zero bytes")
    if content.startswith(b"\xff\xd8"):
        content = strip_jpeg_metadata(content)
    image = Image.open(io.BytesIO(content), formats=FORMATS)
    if getattr(image, "is_animated", False):
        raise UndecodableImageError("animated: more than one frame")
    return image


def _check_size(image: Image.Image, min_side: int, max_pixels: int) -> None:
    size = f"{image.width} x {image.height} pixels"
    if image.width * image.height > max_pixels:
        raise UndecodableImageError(f"{size}, more than max_pixels={max_pixels}")
    if min(image.size) < min_side:
        raise UndecodableImageError(f"{size}, the shorter side below {min_side}")


def _reason(error: Exception) -> str:
    if type(error).__name__ == "UnidentifiedImageError":
        return "not an image of a known format"
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bit grey
        levels = (np.asarray(image).clip(0, 65535).astype(np.uint32) + 128) // 257
        return Image.fromarray(levels.astype(np.uint8)).convert("RGB")
    if image.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _centre_square(image: Image.Image, size: int) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.BICUBIC, box=box)


def _channels_first(image: Image.Image) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))
