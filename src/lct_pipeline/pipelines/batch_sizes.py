"""How many images or latents are worked on at a time."""

from __future__ import annotations

import math

AUTOMATIC_PIXELS = 2**22  # 64 images of 256 x 256: 50 MiB of float32, and a GPU is busy
AUTOMATIC_MAXIMUM = 512


def batch_size_for(batch_size: int, shape: tuple[int, ...]) -> int:
    """Return ``encoding.batch_size``, or for 0 what makes 4 million pixels, 512 at most.

    Args:
        batch_size: Number of records at a time; 0 is automatic.
        shape: Of a record, ``(C, H, W)``.
    """
    automatic = AUTOMATIC_PIXELS // math.prod(shape[1:])
    return batch_size or max(1, min(automatic, AUTOMATIC_MAXIMUM))
