"""How many images or latents are worked on at a time."""

from __future__ import annotations

import math

import torch

GPU_PIXELS = 2**22  # 64 images of 256 x 256: a GPU is busy
CPU_PIXELS = 2**17  # 128 of 32 x 32: beyond, activations fall out of a CPU's cache
MAXIMUM = 512


def batch_size_for(
    batch_size: int, shape: tuple[int, ...], device: torch.device | None = None
) -> int:
    """Return ``encoding.batch_size``, or for 0 as many as suit the device, 512 at most.

    Args:
        batch_size: Number of records at a time; 0 is automatic.
        shape: Of a record, ``(C, H, W)``.
        device: Where they are worked on; None is the CPU.
    """
    is_cpu = device is None or device.type == "cpu"
    automatic = (CPU_PIXELS if is_cpu else GPU_PIXELS) // math.prod(shape[1:])
    return batch_size or max(1, min(automatic, MAXIMUM))
