"""Descriptions of small models."""

from __future__ import annotations

from typing import Any

from lct_pipeline.models.description import ModelDescription

NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {"width": 16, "num_blocks": 1},
    "unet": {
        "width": 8,
        "multipliers": [1, 2],
        "num_blocks": 1,
        "attention_sizes": [4],
        "head_width": 8,
    },
    "dit": {
        "patch_size": 2,
        "depth": 1,
        "width": 16,
        "head_width": 8,
        "positions": "rotary",
        "activation": "relu",
    },
}


def described(kind: str = "mlp", **changes: Any) -> ModelDescription:
    """Return a description of a network of a kind, with changes."""
    values: dict[str, Any] = {
        "model": "consistency",
        "kind": kind,
        "sample_shape": (2, 4, 4),
        "norm": "non_scaling_layer_norm",
        "output_norm": "non_scaling_layer_norm",
        "dropout": 0.0,
        "num_classes": 0,
        "class_counts": {},
        "network": NETWORKS[kind],
        "sigma_data": 0.5,
        "boundary": 0.002,
        "sigma_min": 0.002,
        "sigma_max": 80.0,
        "rho": 7.0,
        "lowest_level": 0.0,
    }
    return ModelDescription(**values | changes)
