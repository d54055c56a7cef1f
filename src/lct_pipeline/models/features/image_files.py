"""What becomes of pixels in image files: truncation to 8 bits, and JPEG.

sLCT generates, truncates and writes JPEG files, and compares them with JPEG files of real images.
Both steps move the Frechet distance, so they are part of that protocol.
"""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def truncate_to_uint8(images: Tensor) -> Tensor:
    """Map float images in [-1, 1] to uint8 by truncation, as sLCT's code does.

    The values 255 (x + 1) / 2 lose their fraction: half a level of brightness on average, where
    :func:`lct_pipeline.models.autoencoder.coding.to_uint8` rounds to the nearest level.
    """
    return ((images.clamp(-1, 1) + 1) / 2 * 255).to(torch.uint8)


def through_jpeg(images: Tensor, *, quality: int = 75) -> Tensor:
    """Return the pixels that JPEG files of uint8 images ``(B, 3, H, W)`` give back.

    The files are written in memory, with Pillow's defaults beside the quality, which is its default
    too: colour at half the resolution (4:2:0).
    """
    arrays = images.permute(0, 2, 3, 1).cpu().numpy()
    decoded = np.stack([_through_jpeg(array, quality) for array in arrays])
    return torch.from_numpy(decoded).permute(0, 3, 1, 2).contiguous().to(images.device)


def _through_jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))
