"""Choice of the device."""

from __future__ import annotations

import torch

from lct_pipeline.errors import ParameterError


def choose_device(name: str) -> torch.device:
    """Return the device that ``runtime.device`` names; ``auto`` is cuda, then mps, then cpu.

    Raises:
        ParameterError: The named device is not there.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    if not available[name]:
        there = ", ".join(kind for kind, is_there in available.items() if is_there)
        raise ParameterError(
            f"runtime.device={name}: not on this machine; there is: {there}"
        )
    return torch.device(name)
