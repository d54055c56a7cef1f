"""Initial weights that networks share."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

Layer = TypeVar("Layer", bound=nn.Module)


def zeroed(layer: Layer) -> Layer:
    """Return a layer with weights and biases 0: what it ends starts as nothing, or the identity."""
    for p in layer.parameters():
        nn.init.zeros_(p)
    return layer
