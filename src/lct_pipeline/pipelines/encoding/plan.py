"""What is left to encode: after which shards, and in which precision."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.models.autoencoder.coding import Precision, automatic_precision
from lct_pipeline.parameters.data import Encoding
from lct_pipeline.pipelines.encoding.worker import MIRRORED


@dataclass(frozen=True)
class EncodingPlan:
    """Precision, fingerprints of the latents and of each shard, and the shards that are left."""

    precision: Precision
    fingerprint: str
    of_shards: list[str]
    numbers: range


def plan_encoding(
    images: ShardStore,
    autoencoder_digest: str,
    previous_latents: ShardStore,
    parameters: Encoding,
    device: torch.device,
) -> EncodingPlan:
    """Return what is left after the latents that are already there.

    ``precision: auto`` goes on in the precision of those, so that latents of a GPU stay of use on a
    machine without one.
    """
    plans = []
    for precision in _precisions(parameters, device):
        how = _how(parameters, precision, autoencoder_digest)
        of_shards = [f"{shard.digest}{how}" for shard in images.shards]
        finished = previous_latents.num_finished_shards(of_shards)
        left = range(finished, len(of_shards))
        whole = f"{images.fingerprint}{how}"
        plans.append(EncodingPlan(precision, whole, of_shards, left))
    return min(plans, key=lambda plan: len(plan.numbers))  # the first of equal ones


def _how(parameters: Encoding, precision: Precision, autoencoder_digest: str) -> str:
    """Return the part of a fingerprint that says how images were encoded."""
    return "".join(
        [
            MIRRORED if parameters.horizontal_flips else "",
            "_bfloat16" if precision == "bfloat16" else "",
            "_float16" if parameters.stored_as == "float16" else "",
            f"-{autoencoder_digest}",
        ]
    )


def _precisions(parameters: Encoding, device: torch.device) -> tuple[Precision, ...]:
    """Return what the latents may be computed in; new ones are in the first."""
    if parameters.precision != "auto":
        return (parameters.precision,)
    if automatic_precision(device) == "float32":
        return "float32", "bfloat16"
    return "bfloat16", "float32"
