"""Pillow's bicubic resizing, as clean-fid uses it, for batches on any device.

Resizing moves the Frechet distance (Parmar et al. 2022). clean-fid has Pillow resize one channel of
one image at a time, in floats. A product with two matrices of weights is the same to 1e-4 of 255,
and can be differentiated. torch's own bicubic antialiasing computes its weights in float32: it is
wrong by up to 1e-2 of 255 on noisy images.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


def resized(images: Tensor, side: int) -> Tensor:
    """Resize float images in [0, 255], ``(B, 3, H, W)``, to a square; clipped, not rounded."""
    height, width = images.shape[-2:]
    if (height, width) == (side, side):
        return images
    rows, columns = (bicubic_weights(n, side).to(images) for n in (height, width))
    return (rows @ images @ columns.T).clamp(0, 255)  # it overshoots at edges


@lru_cache(maxsize=16)
def bicubic_weights(size: int, new_size: int) -> Tensor:
    """Return the weights of old pixels in new ones along one side, ``(new_size, size)``, float64.

    Cubic convolution with a = -1/2 (Keys 1981): with x the distance of an old pixel in new
    pixels or, where the image grows, in old ones, the weight is 3/2 |x|^3 - 5/2 |x|^2 + 1 up to 1
    and -1/2 |x|^3 + 5/2 |x|^2 - 4 |x| + 2 up to 2. The weights of a new pixel sum to 1.
    """
    ratio = size / new_size
    old = torch.arange(size, dtype=torch.float64) + 0.5
    new = (torch.arange(new_size, dtype=torch.float64) + 0.5) * ratio
    x = (old - new[:, None]).abs()
    x /= max(ratio, 1)  # wider where it shrinks: antialiasing
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((2.5 - 0.5 * x) * x - 4) * x + 2
    weights = torch.where(x < 1, near, torch.where(x < 2, far, 0.0))
    return weights / weights.sum(1, keepdim=True)
