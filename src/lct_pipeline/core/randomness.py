"""Randomness as a pure function of a seed and of what it is used for.

A generator made from ``(seed, purpose, step)`` needs no saved state: an interrupted run draws at
step k what an uninterrupted one draws at step k.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derived_seed(seed: int, *purpose: str | int) -> int:
    """Return a seed below 2^63 for one purpose; different purposes give independent streams."""
    text = ":".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def derived_generator(
    seed: int, *purpose: str | int, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Return a generator on ``device``, seeded with :func:`derived_seed`."""
    return torch.Generator(device=device).manual_seed(derived_seed(seed, *purpose))


@contextmanager
def seeded_dropout(seed: int, device: torch.device) -> Iterator[None]:
    """Run a forward pass with a known dropout mask, leaving the global generators as they were.

    Two passes under the same seed draw the same masks, on a CPU and on a GPU: student and target
    of consistency training share theirs this way.
    """
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            torch.cuda.manual_seed(seed)
        yield


def draw_seed(generator: torch.Generator) -> int:
    """Return a seed below 2^63 drawn from ``generator``."""
    return int(torch.randint(2**63 - 1, (), generator=generator))
