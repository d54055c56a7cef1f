"""From the bytes of an image file to a square of RGB pixels, whoever wrote the file.

Time and memory are bounded by the size of the file and by ``max_pixels``: the header is checked
before a pixel is decoded, only ``FORMATS`` are opened, and a file of many frames is refused instead
of decoded. Metadata are neither decompressed nor parsed beyond what Pillow (from 13 on) bounds
itself: text of a PNG file to 64 MiB, tags of TIFF and EXIF to the size of the file.

JPEG files (ITU-T T.81, annex B) can carry far more than one picture: without a look at their
structure, a few mebibytes made for the purpose keep a decoder busy for hours.
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
from PIL.TiffImagePlugin import ImageFileDirectory_v2

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")  # all that Pillow may open

MAX_JPEG_SCANS = 500  # a progressive file has about ten; each is a pass over all pixels

_START_OF_IMAGE = b"\xff\xd8"
_START_OF_SCAN = 0xDA
_END_OF_IMAGE = 0xD9
_APP1, _ADOBE = 0xE1, 0xEE
_ROTATIONS = (b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0")  # EXIF and XMP, in APP1

_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF 6.0
_KINDS = {1: "unsigned", 2: "signed", 3: "float"}  # values of the last
_LAB = 8  # value of the second
# 0xff fills, 0x00 is data, then TEM, RST0 to RST7 and SOI: markers that no length follows
_WITHOUT_LENGTH = {0x00, 0x01, *range(0xD0, 0xD9)}
# application segments and comments: JFIF and Adobe say how colours are stored, the rest is metadata
_METADATA = {*range(0xE1, 0xF0), 0xFE} - {_ADOBE}

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

    Rotated as EXIF says, or XMP where EXIF does not; transparency over white, grey and palette to
    RGB; profiles are not applied. Of v in 16 bits, grey is v / 257 rounded and colour the upper 8
    bits; of fewer than 8 bits, the largest value is 255. Signed and float samples are refused: no
    file states their range. The format is told from the content, not from a name.

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
    if content.startswith(_TIFF_STARTS):
        _refuse_samples(content)
    if content.startswith(b"\xff\xd8"):
        content = strip_jpeg_metadata(content)
    image = Image.open(io.BytesIO(content), formats=FORMATS)
    if getattr(image, "is_animated", False):
        raise UndecodableImageError("animated: more than one frame")
    return image


def _refuse_samples(content: bytes) -> None:
    """Refuse a TIFF file by its samples: Pillow reads some kinds as if they were of 8 bits.

    Raises:
        UndecodableImageError: They are no unsigned integers of 1, 2, 4, 8 or 16 bits, are CIE
            L*a*b*, or in 16 bits 0 is white.
    """
    stream = io.BytesIO(content)
    tags = ImageFileDirectory_v2(stream.read(16 if b"+" in content[:4] else 8))
    stream.seek(tags.next)
    tags.load(stream)
    bits, kind = max(tags.get(_BITS, (1,))), max(tags.get(_SAMPLE_FORMAT, (1,)))
    found = f"{_KINDS.get(kind, 'undefined')} samples of {bits} bits"
    if kind != 1 or bits not in (1, 2, 4, 8, 16):
        raise UndecodableImageError(
            f"{found}; images are unsigned, of 8 or 16 bits: save x in [0, 1] as (255 * x).round()"
        )
    if (tags.get(_PHOTOMETRIC), bits) == (0, 16):
        raise UndecodableImageError(f"{found}, MinIsWhite: save it with 0 as black")
    if tags.get(_PHOTOMETRIC) == _LAB:
        raise UndecodableImageError("colours of CIE L*a*b*: save it as RGB")


def _check_size(image: Image.Image, min_side: int, max_pixels: int) -> None:
    size = f"{image.width} x {image.height} pixels"
    if image.width * image.height > max_pixels:
        raise UndecodableImageError(f"{size}, more than max_pixels={max_pixels}")
    if min(image.size) < min_side:
        raise UndecodableImageError(f"{size}, the shorter side below {min_side}")


def _reason(error: Exception) -> str:
    if type(error).__name__ == "UnidentifiedImageError":
        known = ", ".join(FORMATS)
        return f"not an image of a known format ({known}, unsigned, of 16 bits at most)"
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


def strip_jpeg_metadata(content: bytes) -> bytes:
    """Return a JPEG file without metadata but the first EXIF and XMP segments: they tell rotation.

    Profiles, comments, thumbnails and further pictures of a camera do not reach Pillow, which joins
    split segments in quadratic time.

    Args:
        content: Bytes that begin as a JPEG file does.

    Raises:
        UndecodableImageError: It ends before its pixels, or has more than 500 scans.
    """
    kept, position, wanted = [_START_OF_IMAGE], 2, set(_ROTATIONS)
    while True:
        marker, position = _next_marker(content, position)
        if marker == _START_OF_SCAN:
            break
        end = position + 2 + int.from_bytes(content[position + 2 : position + 4])
        first = content[position + 4 : end]
        found = {n for n in wanted if marker == _APP1 and first.startswith(n)}
        if marker not in _METADATA or found:
            kept.append(content[position:end])
        wanted -= found
        position = end
    if content.count(b"\xff\xda", position) > MAX_JPEG_SCANS:
        raise UndecodableImageError(f"more than {MAX_JPEG_SCANS} scans")
    return b"".join([*kept, content[position:]])


def _next_marker(content: bytes, position: int) -> tuple[int, int]:
    """Return the next marker that a segment follows, and where it is; skip what lies before."""
    while 0 <= (position := content.find(b"\xff", position)) < len(content) - 3:
        marker = content[position + 1]
        if marker == _END_OF_IMAGE:
            break
        if marker != 0xFF and marker not in _WITHOUT_LENGTH:
            return marker, position
        position += 1 if marker == 0xFF else 2
    raise UndecodableImageError("truncated: it ends before its pixels")
