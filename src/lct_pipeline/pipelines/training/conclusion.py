"""What a training ends with: curves, and a record of the model."""

from __future__ import annotations

import math
from typing import Any

from lct_pipeline.datasets.checkpoints import CheckpointStore
from lct_pipeline.datasets.tensors import read_header
from lct_pipeline.reporting.curves import draw_training_curves

__all__ = ["draw_training_curves", "record_of"]


def record_of(checkpoints: CheckpointStore) -> dict[str, Any]:
    """Return what was trained: the network, its number of weights, steps and checkpoints."""
    names = checkpoints.names()
    header, entries, _ = read_header(checkpoints.path(names[-1]))
    return {
        "run": checkpoints.run,
        "network": header["network"],
        "num_weights": sum(math.prod(entry["shape"]) for entry in entries.values()),
        "num_steps": header["step"],
        "num_checkpoints": len(names),
    }
