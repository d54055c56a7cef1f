"""Images as data URIs: strips of samples, and figures that are pictures already."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image
from torch import Tensor

LARGEST_SIDE = 160  # pixels of a sample in the report
PIXEL_ART = 64  # up to this side, samples are stored without loss and shown as squares
MAX_WIDTH = 1400  # pixels of a figure
QUALITY = 85  # of WebP


@dataclass(frozen=True)
class Picture:
    """A picture with its size in pixels, and whether its pixels are to be seen."""

    uri: str
    width: int
    height: int
    pixelated: bool


def strip(images: Tensor, columns: int, rows: int = 1) -> Picture:
    """Return the first images ``(N, 3, H, W)``, uint8, in rows, with gaps that are transparent."""
    columns = min(columns, len(images))
    rows = min(rows, len(images) // columns)
    side = images.shape[-1]
    shown = min(side, LARGEST_SIDE)
    gap = max(1, shown // 20)
    cell = shown + gap
    sheet = Image.new("RGBA", (columns * cell - gap, rows * cell - gap))
    pixels = images[: rows * columns].permute(0, 2, 3, 1).contiguous().numpy()
    for place, one in enumerate(pixels.astype(np.uint8)):
        picture = Image.fromarray(one)
        picture.thumbnail((shown, shown), Image.Resampling.LANCZOS)
        row, column = divmod(place, columns)
        sheet.paste(picture, (column * cell, row * cell))
    return _stored(sheet, pixelated=side <= PIXEL_ART)


def figure(png: bytes) -> Picture:
    """Return a drawn figure, smaller in bytes and at most ``MAX_WIDTH`` wide."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.thumbnail((MAX_WIDTH, picture.height), Image.Resampling.LANCZOS)
    return _stored(picture, pixelated=False)


def _stored(picture: Image.Image, *, pixelated: bool) -> Picture:
    kind, file = "png" if pixelated else "webp", io.BytesIO()
    picture.save(file, kind, optimize=True, quality=QUALITY)
    text = base64.b64encode(file.getvalue()).decode()
    uri = f"data:image/{kind};base64,{text}"
    return Picture(uri, picture.width, picture.height, pixelated)
