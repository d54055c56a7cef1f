"""What a training ends with: curves, samples of each stage, and a record of the model."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.figure import Figure

from lct_pipeline.datasets.checkpoints import CheckpointStore
from lct_pipeline.datasets.decoder import Decoder
from lct_pipeline.datasets.tensors import read_header
from lct_pipeline.evaluation.generator import build_generator
from lct_pipeline.evaluation.plans import first_plan
from lct_pipeline.parameters import Runtime, Sampling
from lct_pipeline.reporting.curves import draw_training_curves
from lct_pipeline.reporting.pictures import draw_panels

__all__ = ["draw_training_curves", "record_of", "stage_samples"]


def stage_samples(
    checkpoints: CheckpointStore,
    decoder: Decoder,
    sampling: Sampling,
    runtime: Runtime,
) -> Figure:
    """Draw one-step samples from the same noise at the end of each stage of the curriculum."""
    network = checkpoints.network(checkpoints.names()[0])
    generator = build_generator(network, decoder, sampling, runtime)
    panels = {
        f"N = {header.num_levels}, step {header.step}": generator.grid(
            checkpoints.read(name).tensors, first_plan(network, sampling), seed=0
        )
        for name, header in checkpoints.headers().items()
        if header.kind == "raw" and header.ends_stage
    }
    return draw_panels(panels, "Samples at the end of each stage, from the same noise")


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
