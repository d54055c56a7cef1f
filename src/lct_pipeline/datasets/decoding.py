"""From the bytes of an image file to a square of RGB pixels."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image, ImageOps


class UndecodableImageError(Exception):
    """The bytes are not an image that can be used; the message is the reason."""


def decode_image(
    content: bytes | np.ndarray, *, size: int, max_pixels: int
) -> np.ndarray:
    """Return the centre square of an image, resized to ``size``.

    Rotated as its EXIF tag says, transparency over white, 16 bit scaled to 8, grey and palette to
    RGB, the first frame of an animation. The filter is Pillow's bicubic, which antialiases when it
    shrinks.

    Args:
        content: Bytes of a file, or grey pixels ``(H, W)``, uint8.
        size: Side of the result.
        max_pixels: Largest image that is decoded.

    Returns:
        Pixels of shape ``(3, size, size)``, uint8.

    Raises:
        UndecodableImageError: The content is no image, is damaged, or is too large.
    """
    image = _centre_square(_to_rgb(_open(content, max_pixels)), size)
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def _open(content: bytes | np.ndarray, max_pixels: int) -> Image.Image:
    if isinstance(content, np.ndarray):
        return Image.fromarray(content)
    if not content:
        raise UndecodableImageError("empty or unreadable in its archive")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, about odd metadata and size
            image = Image.open(io.BytesIO(content))
            if image.width * image.height > max_pixels:
                raise UndecodableImageError(
                    f"{image.width} x {image.height} pixels, more than {max_pixels}"
                )
            image.load()
            return ImageOps.exif_transpose(image)
    except UndecodableImageError:
        raise
    except Exception as error:  # Pillow's plugins raise what they like on damaged bytes
        raise UndecodableImageError(_reason(error)) from error


def _reason(error: Exception) -> str:
    if type(error).__name__ == "UnidentifiedImageError":
        return "not an image of a known format"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bit grey
        wide = np.asarray(image).astype(np.float64) / 257
        return Image.fromarray(wide.round().clip(0, 255).astype(np.uint8)).convert(
            "RGB"
        )
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
